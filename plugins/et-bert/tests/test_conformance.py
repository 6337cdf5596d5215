from et_bert.conformance import TestBert, TestPlugin

__all__ = ["TestBert", "TestPlugin"]
