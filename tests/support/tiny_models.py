"""Small random models of many architectures, as folders like those that people fine-tune: an encoder and a tokenizer.

Nothing is downloaded. The weights come from a seed alone, not from what a version of transformers draws at first, and
are large enough that a wrong W_res moves the logits by far more than rounding does.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

READS_BIN = int(torch.__version__.split(".")[1]) >= 6 or not torch.__version__.startswith("2.")
"""Whether transformers loads a pytorch_model.bin with this torch: below 2.6 it refuses."""

HIDDEN = 32
LAYERS = 2
WORDS = ("the", "a", "match", "team", "goal", "bank", "market", "shares", "film", "music", "good", "bad", "not")

_SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
}
# microsoft/deberta-v3-base's own settings, smaller.
_DEBERTA_V3 = {
    "relative_attention": True,
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_DEBERTA_V2 = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16}

_DECODER = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "n_positions": 80}
_LLAMA = {**_SIZES, "num_key_value_heads": 2}
_BART = {
    "d_model": HIDDEN, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 80,
}  # fmt: skip
_T5 = {"d_model": HIDDEN, "d_kv": 8, "d_ff": 64, "num_layers": LAYERS, "num_heads": 4, "decoder_start_token_id": 1}

_MODELS: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "roberta": {**_SIZES, "type_vocab_size": 1},
    "distilbert": {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 80},
    "deberta-v2": {**_SIZES, **_DEBERTA_V2},
    "deberta-v3": {**_SIZES, **_DEBERTA_V3},
}
ARCHITECTURES = tuple(_MODELS)

_OTHER_MODELS: dict[str, dict[str, Any]] = {
    "albert": {**_SIZES, "embedding_size": 16},
    "bart": _BART,
    "big_bird": {**_SIZES, "block_size": 8, "num_random_blocks": 1},
    "bloom": {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": 4},
    "camembert": _SIZES,
    "convbert": {**_SIZES, "embedding_size": 16},
    "deberta": _SIZES,
    "electra": {**_SIZES, "embedding_size": 16},
    "gemma": {**_LLAMA, "head_dim": 8},
    "gpt2": _DECODER,
    "gpt_neox": _SIZES,
    "gptj": {**_DECODER, "rotary_dim": 4},
    "llama": _LLAMA,
    "longformer": {**_SIZES, "attention_window": 8},
    "mistral": _LLAMA,
    "modernbert": {**_SIZES, "global_attn_every_n_layers": 1},
    "mpnet": _SIZES,
    "nystromformer": {**_SIZES, "num_landmarks": 8, "segment_means_seq_len": 8},
    "opt": {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "ffn_dim": 64,
            "max_position_embeddings": 80, "word_embed_proj_dim": HIDDEN},
    "phi": _SIZES,
    "qwen2": _LLAMA,
    "t5": _T5,
    "xlm-roberta": _SIZES,
    "xlnet": {"d_model": HIDDEN, "n_layer": LAYERS, "n_head": 4, "d_inner": 64},
}  # fmt: skip
ALL_ARCHITECTURES = (*ARCHITECTURES, *_OTHER_MODELS)
NEVER_PADDED = ("bloom", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "phi", "qwen2")
"""Decoders whose tokenizers have no padding token, as those on the hub."""
_PADDED_WITH_1 = ("roberta", "bart", "camembert", "longformer", "mpnet", "opt", "t5", "xlm-roberta")
"""Those of which some count positions from their padding token on, and some look for the end token."""


def make_tiny_model(
    folder: Path, architecture: str = "bert", *, seed: int = 0, dtype: torch.dtype = torch.float32, pooler: bool = True
) -> Path:
    """Write the encoder, its config and a tokenizer into `folder`, stored as `dtype`; returns the folder.

    No checkpoint holds a classifier; BERT's holds its pooler unless `pooler` is False.
    """
    tokenizer = tiny_tokenizer(architecture)
    config = AutoConfig.for_model(
        "deberta-v2" if architecture == "deberta-v3" else architecture,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids(tokenizer.eos_token or tokenizer.sep_token),
        # The range is what a loader draws the missing head from: with the usual 0.02 all logits would be near 0.
        initializer_range=0.5,
        **{**_MODELS, **_OTHER_MODELS}[architecture],
    )
    model = AutoModel.from_config(config, **({} if pooler else {"add_pooling_layer": False}))
    _draw(model, seed)
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(architecture: str = "bert") -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of a few words and all ASCII characters. RoBERTa's family has its padding at 1, as its
    positions count from there; decoders have an end token alone, and put nothing around a text."""
    cls = pad = sep = None
    if architecture in NEVER_PADDED:
        special = end, unk = "<|end|>", "<unk>"
    elif architecture in _PADDED_WITH_1:
        special = cls, pad, sep, unk = "<s>", "<pad>", "</s>", "<unk>"
    else:
        special = pad, cls, sep, unk = "[PAD]", "[CLS]", "[SEP]", "[UNK]"
    characters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = [*special, *WORDS, *characters, *(f"##{character}" for character in characters)]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(vocabulary))}
    core = Tokenizer(models.WordPiece(ids, unk_token=unk))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if cls is None:
        return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=end, unk_token=unk, model_max_length=64)
    core.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=[(cls, ids[cls]), (sep, ids[sep])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, cls_token=cls, pad_token=pad, sep_token=sep, unk_token=unk, model_max_length=64
    )


def _draw(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.dim() > 1:
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
