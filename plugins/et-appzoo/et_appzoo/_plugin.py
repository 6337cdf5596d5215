"""What et-appzoo registers. Imports nothing but the hook marker until a name is used."""

from et_core.hooks import Register, hookimpl

ET_API = 1
ET_CONFORMANCE = "et_appzoo.conformance"


@hookimpl
def et_register_apps(register: Register) -> None:
    register(
        "classification",
        "et_appzoo.classification.app:Classification",
        summary="One text or a pair: single label, several labels, or a number",
    )
    register(
        "matching",
        "et_appzoo.matching.app:Matching",
        summary="Two texts: whether or how well they match, and which candidate does best",
    )


@hookimpl
def et_register_heads(register: Register) -> None:
    register("pooled-linear", "et_appzoo.heads:PooledLinear", summary="Dropout and a linear layer on the pooled state")
    register("two-towers", "et_appzoo.heads:TwoTowers", summary="A vector of each text, and their cosine")


@hookimpl
def et_register_losses(register: Register) -> None:
    register(
        "cosine-cross-entropy",
        "et_appzoo.losses:CosineCrossEntropy",
        summary="Whether the cosine of two towers is that of a match",
    )
    register("cosine-mse", "et_appzoo.losses:CosineMse", summary="Squared error of the cosine against scaled numbers")


@hookimpl
def et_register_objectives(register: Register) -> None:
    register(
        "in-batch-negatives",
        "et_appzoo.objectives:InBatchNegatives",
        summary="Each text has to find its match among those of the batch (InfoNCE)",
    )


@hookimpl
def et_register_metrics(register: Register) -> None:
    for name, target, summary in (
        ("accuracy", "Accuracy", "Share of rows predicted right (multi-label: all labels right)"),
        ("f1", "F1", "F1 of the second of two labels"),
        ("macro-f1", "MacroF1", "F1 of each label, averaged over labels"),
        ("micro-f1", "MicroF1", "F1 over all decisions together"),
        ("mcc", "Mcc", "Matthews correlation coefficient"),
        ("auc", "Auc", "Area under the ROC curve, averaged over labels"),
        ("pearson", "Pearson", "Linear correlation with the true value"),
        ("spearman", "Spearman", "Rank correlation with the true value"),
        ("mse", "Mse", "Mean squared error"),
        ("mae", "Mae", "Mean absolute error"),
    ):
        register(name, f"et_appzoo.metrics:{target}", summary=summary)
    for name, target, summary in (
        ("map", "Map", "Mean average precision of ranked candidates"),
        ("mrr", "Mrr", "Mean reciprocal rank of the first relevant candidate"),
        ("recall-at-1", "RecallAt1", "Share of a query's relevant candidates that come first"),
        ("recall-at-5", "RecallAt5", "Share of a query's relevant candidates among the first 5"),
        ("recall-at-10", "RecallAt10", "Share of a query's relevant candidates among the first 10"),
        ("ndcg-at-10", "NdcgAt10", "Discounted cumulative gain of the first 10 candidates"),
    ):
        register(name, f"et_appzoo.ranking:{target}", summary=summary)
