"""What the core itself registers, through the same hooks as every plugin."""

from et_core.hooks import Register, hookimpl

ET_API = 1
ET_CONFORMANCE = "et_core.conformance"


@hookimpl
def et_register_sources(register: Register) -> None:
    register("zoo", "et_core.sources.zoo:ZooSource", summary="Presets that plugins register, by name")
    register("hf", "et_core.sources.hub:HubSource", summary="Hugging Face Hub: org/repo@hf, org/repo@hf:revision")
    register("local", "et_core.sources.local:LocalSource", summary="A folder with config.json: ./dir@local")
    register("init", "et_core.sources.init:InitSource", summary="Fresh weights of a family: bert@init")


@hookimpl
def et_register_tokenizers(register: Register) -> None:
    register("pretrained", "et_core.data.pretrained:PretrainedTokenizer", summary="The tokenizer.json of a checkpoint")


@hookimpl
def et_register_strategies(register: Register) -> None:
    register("single", "et_core.strategies.single:Single", summary="One process")
    register("ddp", "et_core.strategies.ddp:Ddp", summary="One replica a process, gradients averaged (torch DDP)")


@hookimpl
def et_register_objectives(register: Register) -> None:
    register("supervised", "et_core.training.supervised:Supervised", summary="An app's loss on labelled rows")
    register("distillation", "et_core.training.distillation:Distillation", summary="Labels and what teachers know")


@hookimpl
def et_register_losses(register: Register) -> None:
    register("cross-entropy", "et_core.training.losses:CrossEntropy", summary="One label of several, by index")
    register("binary-cross-entropy", "et_core.training.losses:BinaryCrossEntropy", summary="Any of several labels")
    register("mse", "et_core.training.losses:Mse", summary="Squared error of a real value")


@hookimpl
def et_register_optimizers(register: Register) -> None:
    register("adamw", "et_core.training.optimizers:AdamW", summary="Adam with decoupled weight decay, fused")
    register("sgd", "et_core.training.optimizers:Sgd", summary="Stochastic gradient descent with momentum 0.9")


@hookimpl
def et_register_schedules(register: Register) -> None:
    register("linear", "et_core.training.schedules:Linear", summary="Linear to zero")
    register("cosine", "et_core.training.schedules:Cosine", summary="Half a cosine to zero")
    register("constant", "et_core.training.schedules:Constant", summary="Constant after the warm-up")


@hookimpl
def et_register_trackers(register: Register) -> None:
    register(
        "tensorboard", "et_core.training.trackers:TensorBoard", summary="Event files in the run's tensorboard folder"
    )
