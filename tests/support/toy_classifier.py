"""A classifier of a few hundred weights, and documents that it can learn."""

from __future__ import annotations

import random
from types import SimpleNamespace

import torch
from classify import classify
from torch import nn

from federa.data.batches import Examples
from federa.methods.base import Method
from federa.models.pretrained import PretrainedModel
from federa.models.tuned import TunedModel

CPU = torch.device("cpu")
TASK = classify(3)
VOCABULARY, WIDTH, CLASSES = 20, 16, 3


class Encoder(nn.Module):
    """Token embeddings, a frozen mixing matrix, and a low-rank path beside it as an adapter has it."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.frozen = nn.Linear(WIDTH, WIDTH)
        self.down = nn.Linear(WIDTH, 4, bias=False)
        self.up = nn.Linear(4, WIDTH, bias=False)

    def forward(self, input_ids, attention_mask):
        hidden = self.embedding(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mean = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return torch.tanh(self.frozen(mean) + self.up(self.down(mean)))


class ToyClassifier(nn.Module):
    """What the trainer sees of a transformers classifier."""

    base_model_prefix = "encoder"

    def __init__(self, dropout=0.0):
        super().__init__()
        self.encoder = Encoder()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(WIDTH, CLASSES)
        self.dtypes = set()

    def forward(self, input_ids, attention_mask):
        logits = self.classifier(self.dropout(self.encoder(input_ids, attention_mask)))
        self.dtypes.add(logits.dtype)
        return SimpleNamespace(logits=logits)


class LowRank(Method):
    """The low-rank path is communicated; the head does for every method."""

    learning_rate = 1e-2

    def communicated(self, name):
        return ".up." in name or ".down." in name


def tuned(dropout=0.0, dtype=torch.float32):
    """The same toy every time, ready to be trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = PretrainedModel(model=ToyClassifier(dropout), tokenizer=None, missing=frozenset(), digest="")
    model = TunedModel(base, LowRank(LowRank.Config()))
    model.freeze(dtype)
    return model


def examples(count=40, seed=1):
    """Documents of three to eight tokens that tell their class: every third token of the vocabulary belongs to it."""
    rng = random.Random(seed)
    labels = tuple(rng.randrange(CLASSES) for _ in range(count))
    own = {label: [token for token in range(1, VOCABULARY) if token % CLASSES == label] for label in range(CLASSES)}
    token_ids = tuple([rng.choice(own[label]) for _ in range(rng.randint(3, 8))] for label in labels)
    return Examples(token_ids=token_ids, targets=labels, pad_id=0)


EXAMPLES = examples()


def equal(one, other):
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)
