"""What et-adabert registers. Imports nothing but the hook marker until a name is used."""

from et_core.hooks import Register, hookimpl

ET_API = 1
ET_CONFORMANCE = "et_adabert.conformance"


@hookimpl
def et_register_distillers(register: Register) -> None:
    for name, target, summary in (
        ("vanilla-kd", "vanilla:VanillaKd", "The teacher's logits, Hinton et al. 2015"),
        ("probes", "probes:Probes", "A classifier on each layer of the teacher, as in AdaBERT"),
        ("pkd", "pkd:Pkd", "Normalised CLS states of several layers, Sun et al. 2019"),
        ("tinybert", "tinybert:TinyBert", "Attention scores and hidden states of several layers, Jiao et al. 2020"),
        ("minilm", "minilm:MiniLm", "Relations of queries, keys and values in one layer, Wang et al. 2020"),
    ):
        register(name, f"et_adabert.distillers.{target}", summary=summary)


@hookimpl
def et_register_augmenters(register: Register) -> None:
    for name, target, summary in (
        (
            "embedding-neighbours",
            "neighbours:EmbeddingNeighbours",
            "Words give way to their neighbours in the teacher's table",
        ),
        ("random-deletion", "deletion:RandomDeletion", "Words are left out"),
        ("span-mixing", "mixing:SpanMixing", "A span of words comes from another row"),
        ("masked-lm", "masked_lm:MaskedLm", "Words give way to what a masked language model expects"),
    ):
        register(name, f"et_adabert.augmenters.{target}", summary=summary)


@hookimpl
def et_register_backbones(register: Register) -> None:
    register(
        "adabert", "et_adabert.student.backbone:AdaBert", summary="A searched network of convolutions, Chen et al. 2020"
    )
    register("adabert-supernet", "et_adabert.search.supernet:Supernet", summary="What the search for an adabert trains")


@hookimpl
def et_register_objectives(register: Register) -> None:
    register(
        "adabert-search", "et_adabert.search.objective:AdaBertSearch", summary="Searches cell and depth of an adabert"
    )


@hookimpl
def et_register_optimizers(register: Register) -> None:
    register("score-adam", "et_adabert.search.optimizer:ScoreAdam", summary="Adam for the scores of a search")
