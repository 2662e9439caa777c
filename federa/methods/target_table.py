"""What architectures call the matrices that methods put layers beside, in one table; PEFT's own is the fallback.

An architecture is what transformers calls it, `model_type` in config.json. Nothing is guessed from names: a matrix that
is called `in_proj` makes query, key and value in one architecture and is part of a state-space layer in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """The ends of names by architecture. `from_peft`: what is not here is looked up in PEFT's table for LoRA."""

    by_architecture: Mapping[str, tuple[str, ...]]
    from_peft: bool = False

    def ends(self, architecture: str) -> tuple[str, ...]:
        """The ends of the names of an architecture's matrices; none where it is in no table."""
        found = self.by_architecture.get(architecture, ())
        return _pefts(architecture) if self.from_peft and not found else found


def _pefts(architecture: str) -> tuple[str, ...]:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    found = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(architecture, ())
    # A text is a pattern over whole paths, for models with more than a text's part.
    return () if isinstance(found, str) else tuple(found)


def _rows(*rows: tuple[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {architecture: ends for architectures, ends in rows for architecture in architectures.split()}


_BERTS = (
    "bert big_bird camembert convbert data2vec-text electra ernie layoutlm longformer markuplm megatron-bert mra "
    "nystromformer rembert roberta roberta-prelayernorm roc_bert roformer tapas xlm-roberta xlm-roberta-xl yoso"
)
_LLAMAS = (
    "arcee eurobert gemma gemma2 gemma3_text glm glm4 helium llama ministral3 mistral olmo olmo2 olmo3 qwen2 qwen3 "
    "seed_oss smollm3 stablelm"
)
_BARTS = "bart mbart mvp plbart"
_GPTS = "gpt2 gpt-sw3 gpt_bigcode openai-gpt"
_T5S = "mt5 t5 umt5"

QUERY_AND_VALUE = Targets(
    from_peft=True,
    by_architecture=_rows(
        (_BERTS, ("query", "value")),
        ("albert canine ibert layoutlmv3 lilt luke mobilebert perceiver squeezebert xmod", ("query", "value")),
        ("deberta-v2", ("query_proj", "value_proj")),
        ("distilbert flaubert xlm", ("q_lin", "v_lin")),
        ("funnel", ("q_head", "v_head")),
        ("mpnet", ("q", "v")),
        (_T5S, ("q", "v")),
        (_BARTS, ("q_proj", "v_proj")),
        (_LLAMAS, ("q_proj", "v_proj")),
        ("biogpt diffllama gpt_neo gpt_oss gptj gte jina_embeddings_v3 mixtral", ("q_proj", "v_proj")),
        ("modernbert-decoder nomic_bert opt phi phimoe qwen2_moe qwen3_moe starcoder2", ("q_proj", "v_proj")),
        ("ctrl", ("Wq", "Wv")),
        # Query, key and value in one matrix.
        (_GPTS, ("c_attn",)),
        ("bloom falcon gpt_neox persimmon", ("query_key_value",)),
        ("modernbert mpt", ("Wqkv",)),
        ("deberta", ("in_proj",)),
        ("phi3", ("qkv_proj",)),
    ),
)
"""The matrices of query and value, or the one that they are parts of."""

OUTPUTS = Targets(
    by_architecture=_rows(
        # Of attention as of the feed-forward: attention.output.dense and output.dense.
        (_BERTS, ("output.dense",)),
        ("canine deberta deberta-v2", ("output.dense",)),
        ("albert", ("attention.dense", "ffn_output")),
        ("distilbert flaubert xlm", ("out_lin", "lin2")),
        ("funnel", ("attention.post_proj", "ffn.linear_2")),
        ("mpnet", ("attn.o", "output.dense")),
        ("modernbert modernbert-decoder", ("attn.Wo", "mlp.Wo")),
        (_T5S, ("SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo")),
        (_BARTS, ("self_attn.out_proj", "encoder_attn.out_proj", "fc2")),
        (_LLAMAS, ("self_attn.o_proj", "mlp.down_proj")),
        ("diffllama gte nomic_bert phi3", ("self_attn.o_proj", "mlp.down_proj")),
        ("biogpt opt", ("self_attn.out_proj", "fc2")),
        ("jina_embeddings_v3", ("self_attn.o_proj", "mlp.fc2")),
        ("starcoder2", ("self_attn.o_proj", "mlp.c_proj")),
        (_GPTS, ("attn.c_proj", "mlp.c_proj")),
        ("gpt_neo", ("attention.out_proj", "mlp.c_proj")),
        ("gptj", ("attn.out_proj", "mlp.fc_out")),
        ("gpt_neox", ("attention.dense", "mlp.dense_4h_to_h")),
        ("bloom falcon", ("self_attention.dense", "mlp.dense_4h_to_h")),
        ("persimmon", ("self_attn.dense", "mlp.dense_4h_to_h")),
        ("phi", ("self_attn.dense", "mlp.fc2")),
        ("mpt", ("attn.out_proj", "ffn.down_proj")),
    ),
)
"""The last matrices of attention and of the feed-forward: what they give is added to the residual stream."""
