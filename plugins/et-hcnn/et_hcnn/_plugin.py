"""What et-hcnn registers. Imports nothing but the hook marker until a name is used."""

from et_core.hooks import Register, hookimpl

ET_API = 1
ET_CONFORMANCE = "et_hcnn.conformance"


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("hcnn", "et_hcnn.hcnn:Hcnn", summary="Pairs: convolution and interaction pyramid, Yu et al. 2018")
    register("bicnn", "et_hcnn.bicnn:BiCnn", summary="Pairs: one convolution network for both texts")
    register("dam", "et_hcnn.dam:Dam", summary="Pairs: decomposable attention, as in EasyTransfer")
    register("damplus", "et_hcnn.dam:DamPlus", summary="Pairs: dam beside a bicnn of half its size")
    register("textcnn", "et_hcnn.textcnn:TextCnn", summary="One text: convolutions of several widths, Kim 2014")
    register("hcnn-drss", "et_hcnn.drss:HcnnDrss", summary="Pairs of two domains: three hcnn networks, Yu et al. 2018")


@hookimpl
def et_register_heads(register: Register) -> None:
    register("drss", "et_hcnn.drss:DrssHead", summary="Specific and shared output matrices of two domains")


@hookimpl
def et_register_objectives(register: Register) -> None:
    register("drss", "et_hcnn.objective:Drss", summary="Supervised, with a learned covariance of four output matrices")


@hookimpl
def et_register_tokenizers(register: Register) -> None:
    register("words", "et_hcnn.tokenizer:WordTokenizer", summary="Words, with a vocabulary learned from the data")


@hookimpl
def et_register_segmenters(register: Register) -> None:
    register("words", "et_hcnn.segmenters:Words", summary="Unicode words; Chinese and Japanese by character")
    register("characters", "et_hcnn.segmenters:Characters", summary="What is read as one character, such as an emoji")
    register("jieba", "et_hcnn.segmenters:Jieba", summary="Chinese words by a dictionary: et-hcnn[jieba]")


@hookimpl
def et_register_optimizers(register: Register) -> None:
    register("adagrad", "et_hcnn.optimizers:Adagrad", summary="Duchi et al. 2011, with L2 as weight decay")
