from et_hcnn.conformance import (
    TestBiCnn,
    TestDam,
    TestDamPlus,
    TestDrss,
    TestDrssHead,
    TestHcnn,
    TestHcnnDrss,
    TestPlugin,
    TestTextCnn,
    TestWords,
    TestWordsByCharacter,
)

__all__ = [
    "TestBiCnn",
    "TestDam",
    "TestDamPlus",
    "TestDrss",
    "TestDrssHead",
    "TestHcnn",
    "TestHcnnDrss",
    "TestPlugin",
    "TestTextCnn",
    "TestWords",
    "TestWordsByCharacter",
]
