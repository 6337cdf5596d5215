"""What et-appzoo registers. Imports nothing but the hook marker until a name is used."""

from et_core.hooks import Register, hookimpl

ET_API = 1


@hookimpl
def et_register_apps(register: Register) -> None:
    register(
        "classification",
        "et_appzoo.classification.app:Classification",
        summary="One text or a pair: single label, several labels, or a number",
    )


@hookimpl
def et_register_heads(register: Register) -> None:
    register("pooled-linear", "et_appzoo.heads:PooledLinear", summary="Dropout and a linear layer on the pooled state")


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
