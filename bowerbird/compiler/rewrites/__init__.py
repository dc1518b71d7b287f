"""The laws, by what they are about; ``LAWS`` is the order in which they are tried at a node."""

from bowerbird.compiler.rewrite import Rewrite
from bowerbird.compiler.rewrites.folding import LinearOfScale, LinearOfShift, ScaleOfLinear, ShiftOfLinear
from bowerbird.compiler.rewrites.layer_norm import LinearOfLayerNorm
from bowerbird.compiler.rewrites.linear import (
    LinearOfConcat,
    LinearOfExpand,
    LinearOfProduct,
    LinearOfReshape,
    LinearOfStack,
    LinearOfSum,
    ProductByConstant,
    ProductOfConcat,
)
from bowerbird.compiler.rewrites.pointwise import PointwiseOfConcat, PointwiseOfExpand
from bowerbird.compiler.rewrites.shapes import (
    ConcatOfConcat,
    OneStep,
    PermuteOfConcat,
    ReshapeOfConcat,
    ReshapeOfExpand,
    SliceOfConcat,
)
from bowerbird.compiler.rewrites.sums import ReduceOfConcat, SumByStage, SumOfLinears

LAWS: tuple[Rewrite, ...] = (
    OneStep(),
    ConcatOfConcat(),
    ReshapeOfConcat(),
    ReshapeOfExpand(),
    PermuteOfConcat(),
    SliceOfConcat(),
    ProductByConstant(),
    ScaleOfLinear(),
    ShiftOfLinear(),
    LinearOfScale(),
    LinearOfShift(),
    PointwiseOfExpand(),
    PointwiseOfConcat(),
    ReduceOfConcat(),
    LinearOfReshape(),
    LinearOfExpand(),
    LinearOfLayerNorm(),
    LinearOfConcat(),
    LinearOfStack(),
    LinearOfSum(),
    LinearOfProduct(),
    ProductOfConcat(),
    SumByStage(),
    SumOfLinears(),
)
