"""Clusters of like texts: k-means over sentence embeddings, for the partition of data without classes (FedNLP, arXiv
2104.08815, section 3.2)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from federa.data.batches import collate, tokenize
from federa.errors import BadInput
from federa.extras import how_to_add
from federa.models.pretrained import PretrainedModel
from federa.seeds import derive_seed

MAX_TOKENS = 128
"""Tokens of a text that its embedding is made of."""
_BATCH_SIZE = 64
_STARTS = 4
"""k-means starts so often; the one with the least distance counts."""

_last: tuple[object, list[int]] | None = None


def cluster_texts(base: PretrainedModel, texts: Sequence[str], count: int, seed: int, *, fitted: int) -> list[int]:
    """The cluster of each text, from 0: of `count`, or as many as there are different embeddings. The centres are those
    of the first `fitted` texts; the others belong to the nearest. The same seed gives the same clusters on one kind of
    machine; between others a text that is about as near to two centres may change sides.

    A process that asks for the same again, for another method's run, gets it without the work. Raises BadInput where
    scikit-learn is not installed."""
    global _last
    key = (base.digest, tuple(map(hash, texts)), count, seed, fitted)
    if _last is not None and _last[0] == key:
        return _last[1]
    try:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        raise BadInput(f"data.partition.over: clusters need scikit-learn; {how_to_add('data')} brings it") from None
    embeddings = embed_texts(base, texts)
    most = len(np.unique(embeddings[:fitted], axis=0))
    means = KMeans(n_clusters=min(count, most), n_init=_STARTS, random_state=derive_seed(seed, "clusters") % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(embeddings[:fitted])
    found = [int(cluster) for cluster in means.predict(embeddings)]
    _last = key, found
    return found


def embed_texts(base: PretrainedModel, texts: Sequence[str]) -> NDArray[np.float64]:
    """Sentence embeddings, texts x hidden: the mean of the last hidden states over a text's tokens, of length 1
    (Sentence-BERT, arXiv 1908.10084), from the base model before any method touched it. Equal texts are computed
    once."""
    different = list(dict.fromkeys(texts))
    longest = min(MAX_TOKENS, base.max_tokens or MAX_TOKENS)
    examples = tokenize(different, [0] * len(different), base.tokenizer, longest)
    encoder = _encoder(base.model)
    was_training = encoder.training
    encoder.eval()
    lengths = examples.lengths
    order = sorted(range(len(different)), key=lengths.__getitem__)
    rows: dict[str, NDArray[np.float64]] = {}
    with torch.inference_mode():
        for first in range(0, len(order), _BATCH_SIZE):
            indices = order[first : first + _BATCH_SIZE]
            batch = collate(examples, indices)
            states = encoder(**batch.inputs)[0].double()
            mask = batch.inputs["attention_mask"]
            weights = torch.ones(states.shape[:2]) if mask is None else mask
            means = (states * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)
            for index, mean in zip(indices, torch.nn.functional.normalize(means, dim=-1).numpy(), strict=True):
                rows[different[index]] = mean
    encoder.train(was_training)
    return np.stack([rows[text] for text in texts])


def _encoder(model: Any) -> Any:
    """What is below the head: of an encoder and a decoder the encoder."""
    trunk = getattr(model, "base_model", model)
    return trunk.get_encoder() if getattr(trunk.config, "is_encoder_decoder", False) else trunk
