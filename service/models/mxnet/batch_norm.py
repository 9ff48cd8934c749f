"""BatchNorm at inference is a scale and a shift per channel. This module decides which ones fold into the layer before.

Folding is exact behind a Convolution or FullyConnected with no other reader: both are linear in each output channel.
Before a padded Convolution it is not exact, because the padding is zero after the BatchNorm; those stay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import InvalidModel
from service.models.mxnet.call import Call
from service.models.mxnet.parameters import ParameterFile
from service.models.mxnet.symbol import Source, Symbol

_LINEAR = frozenset({"Convolution", "FullyConnected"})
_DEFAULT_EPSILON = 1e-3


@dataclass(frozen=True)
class BatchNorm:
    """One BatchNorm: the names of its parameters and their file."""

    parameters: ParameterFile
    gamma: str | None
    """None if MXNet fixes gamma: `fix_gamma`, the default, means 1 whatever the file holds."""
    beta: str
    mean: str
    variance: str
    epsilon: float

    def scale(self) -> npt.NDArray[np.float64]:
        """Shape (channels,): y = x * scale + shift."""
        variance = self.parameters.read(self.variance).astype(np.float64) + self.epsilon
        if not (variance > 0).all():
            raise InvalidModel(f"{self.parameters.path.name}: {self.variance} holds a variance that is not positive")
        gamma = 1.0 if self.gamma is None else self.parameters.read(self.gamma)
        return np.asarray(gamma / np.sqrt(variance))

    def shifted(self, bias: npt.NDArray[np.float32] | float) -> npt.NDArray[np.float32]:
        """A bias before this BatchNorm, after folding, shape (channels,)."""
        moved = (bias - self.parameters.read(self.mean).astype(np.float64)) * self.scale()
        return (moved + self.parameters.read(self.beta)).astype(np.float32)


def read_batch_norm(call: Call, channels: int | None) -> BatchNorm:
    """The BatchNorm of a node over that number of channels. Raises InvalidModel, which names the unsupported part."""
    call.expect(5)
    attributes = call.attributes
    # Momentum, use_global_stats and the calibration ranges matter in training and in quantized networks only.
    attributes.ignore("momentum", "use_global_stats", "cudnn_off", "min_calib_range", "max_calib_range")
    if attributes.integer("axis", 1) != 1:
        raise attributes.refusal("only axis=1, the channels, is supported")
    if attributes.flag("output_mean_var", False):
        raise attributes.refusal("output_mean_var is not supported")
    fixed, epsilon = attributes.flag("fix_gamma", True), attributes.real("eps", _DEFAULT_EPSILON)
    attributes.refuse_rest()
    gamma, beta, mean, variance = (call.parameter(place) for place in range(1, 5))
    for name in (gamma, beta, mean, variance):
        call.expect_shape(name, (channels,))
    return BatchNorm(call.parameters, None if fixed else gamma, beta, mean, variance, epsilon)


def foldable(symbol: Symbol, wanted: Sequence[int], outputs: Sequence[Source]) -> dict[int, int]:
    """Number of the linear node -> number of the BatchNorm that folds into it, among the `wanted` nodes."""
    readers = Counter(source.node for number in wanted for source in symbol.nodes[number].inputs)
    readers.update(source.node for source in outputs)
    return {
        before: number
        for number in wanted
        if symbol.nodes[number].op == "BatchNorm"
        and symbol.nodes[number].inputs  # without an input its translation is refused
        and symbol.nodes[before := symbol.nodes[number].inputs[0].node].op in _LINEAR
        and readers[before] == 1
    }
