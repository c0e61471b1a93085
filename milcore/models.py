"""The networks, S of them side by side: parameters carry a leading model axis and one batched product serves all.

Every pooling is a weighted mean of cell evidence, so a network has no layer after it. `mean` weighs cells equally;
`attention` by the softmax of a gated attention logit (Ilse, Tomczak & Welling, ICML 2018); `topk` counts the share of
cells that argue most for one side, and no others (as CellCnn: Arvaniti & Claassen, Nat Commun 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

__all__ = ["POOLINGS", "Networks", "device"]

POOLINGS = ("attention", "mean", "topk")  # the poolings whose evidence is a learnt network
HIDDEN = 32
GATE = 16
GATES = ("tanh_gate", "sigmoid_gate")

Loss = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


def device() -> torch.device:
    """Where networks are: on a GPU where PyTorch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Networks:
    """S networks over F features, made of `parts` as the property of that name gives them: layers (S, inputs, outputs),
    biases (S, 1, outputs), and each network's own scaling of the features, `mean` and `sd` (S, 1, F).

    `learnt` are all parameters in one vector, and `slope` the gradient that `backward` leaves. Inside, cells come last
    and one product reads gates and evidence alike from what is hidden: a step's time is mostly memory traffic.
    """

    def __init__(self, parts: Mapping[str, torch.Tensor]) -> None:
        parts = {name: part.to(device()) for name, part in parts.items()}
        self.mean, self.sd = parts["mean"], parts["sd"]
        self.outputs, self.attends = parts["head"].shape[-1], "look" in parts
        gates = [parts[name] for name in GATES if self.attends]
        layers = {"embed": parts["embed"], "embed_bias": parts["embed_bias"]}
        layers |= {"read": torch.cat([*gates, parts["head"]], 2), "bias": parts["bias"]}
        layers |= {"look": parts["look"]} if self.attends else {}
        turned = {name: layer.mT for name, layer in layers.items()}
        self.learnt = torch.cat([layer.flatten() for layer in turned.values()])
        self.slope = torch.zeros_like(self.learnt)
        self._layer, self._slope = _views(self.learnt, turned), _views(self.slope, turned)
        self._kept: dict[str, torch.Tensor] = {}

    @classmethod
    def drawn(
        cls, mean: torch.Tensor, sd: torch.Tensor, draw: torch.Generator, *, attends: bool, outputs: int
    ) -> Networks:
        """Networks that have learnt nothing, with these scalings (S, F)."""
        S, F = mean.shape

        def layer(inputs: int, outputs: int) -> torch.Tensor:
            bound = math.sqrt(3 / inputs)
            return (torch.rand(S, inputs, outputs, generator=draw) * 2 - 1) * bound

        parts = {"mean": mean[:, None], "sd": sd[:, None]}
        parts |= {"embed": layer(F, HIDDEN), "embed_bias": torch.zeros(S, 1, HIDDEN)}
        parts |= {"head": layer(HIDDEN, outputs), "bias": torch.zeros(S, 1, outputs)}
        if attends:
            parts |= {name: layer(HIDDEN, GATE) for name in GATES} | {"look": layer(GATE, 1)}
        return cls(parts)

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """What the networks are made of, by name."""
        turned = {name: layer.mT for name, layer in self._layer.items()}
        read = turned.pop("read")
        gates = dict(zip(GATES, read.split(GATE, 2), strict=False)) if self.attends else {}
        return {"mean": self.mean, "sd": self.sd} | turned | {"head": read[..., -self.outputs :]} | gates

    def __call__(
        self, x: torch.Tensor, models: slice = slice(None)
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features (S, n, F), missing values NaN -> evidence (S, n, K), centred over several outputs, and
        attention logits (S, n), None where cells do not differ in attention; on the networks' device. Changes x.

        `models` picks some of the S; x then has as many.
        """
        _, read, gate = self._passed(x.to(self.mean.device), models, {})
        return self._said(read, gate, models)

    def backward(self, x: torch.Tensor, loss: Loss) -> None:
        """Leaves the gradient of a loss, which is a function of what calling with x gives. Changes x.

        Written out, into the same memory at each step: what automatic differentiation adds is mostly memory traffic.
        """
        x = x.to(self.mean.device)
        h, read, gate = self._passed(x, slice(None), self._kept)
        evidence, logit = self._said(read, gate, slice(None))
        evidence.requires_grad_()
        if logit is not None:
            logit.requires_grad_()
        loss(evidence, logit).backward()
        layer, slope, by_evidence = self._layer, self._slope, evidence.grad.mT
        if self.outputs > 1:
            by_evidence = by_evidence - by_evidence.mean(1, keepdim=True)
        above = _place(self._kept, "above", read)
        above[:, -self.outputs :] = by_evidence
        torch.sum(by_evidence, 2, keepdim=True, out=slope["bias"])
        if logit is not None:
            self._through_gates(read, gate, logit.grad[:, None], above)
        torch.bmm(above, h.mT, out=slope["read"])
        below = torch.bmm(layer["read"].mT, above, out=_place(self._kept, "below", h))
        below.mul_(h.sign_())  # 1 where the rectifier let through, else 0
        torch.bmm(below, x, out=slope["embed"]).div_(self.sd)
        torch.sum(below, 2, keepdim=True, out=slope["embed_bias"])

    def _passed(
        self, x: torch.Tensor, models: slice, kept: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What is hidden (S, H, n), what is read of it (S, 2 G + K, n), and the product of both gates (S, G, n)."""
        layer = {name: part[models] for name, part in self._layer.items()}
        x.sub_(self.mean[models])
        torch.nan_to_num(x, out=x)  # a missing value is the training mean
        embed, n = layer["embed"] / self.sd[models], x.shape[1]
        h = _place(kept, "h", x, (len(x), HIDDEN, n))
        torch.baddbmm(layer["embed_bias"], embed, x.mT, out=h).relu_()
        read = _place(kept, "read", x, (len(x), layer["read"].shape[1], n))
        torch.bmm(layer["read"], h, out=read)
        if not self.attends:
            return h, read, None
        tanh, sigmoid = read[:, :GATE].tanh_(), read[:, GATE : 2 * GATE].sigmoid_()
        return h, read, torch.mul(tanh, sigmoid, out=_place(kept, "gate", tanh))

    def _said(
        self, read: torch.Tensor, gate: torch.Tensor | None, models: slice
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        evidence = read[:, -self.outputs :] + self._layer["bias"][models]
        if self.outputs > 1:
            evidence -= evidence.mean(1, keepdim=True)
        return evidence.mT, None if gate is None else torch.bmm(self._layer["look"][models], gate)[:, 0]

    def _through_gates(
        self, read: torch.Tensor, gate: torch.Tensor, by_logit: torch.Tensor, above: torch.Tensor
    ) -> None:
        """From the gradient of the logits (S, 1, n) to that of what the gates bend, into `above`."""
        tanh, sigmoid = read[:, :GATE], read[:, GATE : 2 * GATE]
        torch.bmm(by_logit, gate.mT, out=self._slope["look"])
        by_gate = _place(self._kept, "by_gate", gate)
        torch.mul(self._layer["look"].mT, by_logit, out=by_gate)
        torch.addcmul(sigmoid, gate, tanh, value=-1, out=above[:, :GATE]).mul_(by_gate)
        torch.addcmul(gate, gate, sigmoid, value=-1, out=above[:, GATE : 2 * GATE]).mul_(by_gate)


def _views(every: torch.Tensor, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parts of a vector by name, in the shapes of others."""
    parts = every.split([one.numel() for one in like.values()])
    return {name: part.view(one.shape) for (name, one), part in zip(like.items(), parts, strict=True)}


def _place(
    kept: dict[str, torch.Tensor], name: str, like: torch.Tensor, shape: tuple[int, ...] = ()
) -> torch.Tensor:
    """Memory for a result: that of the last time, where there is some of this shape (that of `like`)."""
    shape = shape or tuple(like.shape)
    if name not in kept or kept[name].shape != shape:
        kept[name] = like.new_empty(shape)
    return kept[name]
