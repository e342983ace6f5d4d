"""Operators as the files have them: none in place, none that does nothing, and what converters would spell out is spelled out."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

#: Views that share memory with what they are taken from: written to in place, they change it.
_VIEWS = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "as_strided", "permute", "transpose", "t", "movedim"),
    *("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "detach", "alias", "contiguous", "to"),
)
_COPIES = (aten.contiguous.default, aten.clone.default)
_SAME_VALUE = (*_COPIES, aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default)
_DROPOUTS = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default, aten.feature_alpha_dropout.default)


def name_of(node: fx.Node) -> str:
    """Return an operator's name without its namespace and overload, such as `conv2d`; an empty string for anything else."""
    return str(node.target._schema.name).partition("::")[2] if isinstance(node.target, torch._ops.OpOverload) else ""


def overwrites(node: fx.Node) -> bool:
    """Return whether an operator writes its result into its first input."""
    name = name_of(node)
    return name.endswith("_") and not name.endswith("__")


def shares_memory(module: fx.GraphModule) -> bool:
    """Return whether an operator overwrites what somebody else sees, so that `functional` would change what the network gives."""
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in filter(overwrites, module.graph.nodes):
        written = node.args[0]
        if not isinstance(written, fx.Node) or written.op != "call_function" or name_of(written) in _VIEWS:
            return True
        if any(order[user] > order[node] or name_of(user) in _VIEWS for user in written.users):
            return True
    return False


def functional(module: fx.GraphModule) -> None:
    """Replace operators that overwrite their input by those that do not, so that every value of a run can be kept."""
    for node in filter(overwrites, module.graph.nodes):
        node.target = getattr(getattr(aten, name_of(node)[:-1]), node.target._overloadname)
    module.recompile()


def whole_batch_norms(module: fx.GraphModule) -> None:
    """Write batch norms that functionalization took apart as the one operator that they were."""
    for node in list(module.graph.nodes):
        if node.target is not aten._native_batch_norm_legit_no_training.default:
            continue
        *tensors, momentum, eps = node.args
        with module.graph.inserting_before(node):
            norm = called(module, aten.batch_norm.default, *tensors, False, momentum, eps, False, like=node)
        for part in list(node.users):
            part.replace_all_uses_with(norm)
            module.graph.erase_node(part)
        module.graph.erase_node(node)
    module.recompile()


def drop_what_does_nothing(module: fx.GraphModule) -> None:
    """Remove dropouts, copies, checks and conversions to the type that a value has already."""
    copies = False
    for node in list(module.graph.nodes):
        if node.target in (aten._assert_tensor_metadata.default, aten._assert_scalar.default):
            module.graph.erase_node(node)
        elif _does_nothing(node):
            copies |= node.target in _COPIES
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    for node in module.graph.nodes:  # a view of what is no longer laid out afresh may need a copy
        if copies and node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
    module.recompile()


def _does_nothing(node: fx.Node) -> bool:
    if node.target in _DROPOUTS:
        return not node.args[2]
    if name_of(node) == "to":
        values = [part.meta.get("val") if isinstance(part, fx.Node) else None for part in (node, node.args[0])]
        return all(isinstance(value, torch.Tensor) for value in values) and values[0].dtype == values[1].dtype  # type: ignore[union-attr]
    return node.target in _SAME_VALUE


def spell_out_hard_sigmoid(module: fx.GraphModule) -> None:
    """Write hard-sigmoid as clip(x + 3, 0, 6) / 6: each step is a tensor of the TFLite file and has a range of its own."""
    for node in list(module.graph.nodes):
        if node.target is not aten.hardsigmoid.default:
            continue
        with module.graph.inserting_before(node):
            moved = called(module, aten.add.Tensor, node.args[0], 3.0, like=node)
            clipped = called(module, aten.hardtanh.default, moved, 0.0, 6.0, like=node)
            scaled = called(module, aten.mul.Tensor, clipped, 1 / 6, like=node)
        node.replace_all_uses_with(scaled)
        module.graph.erase_node(node)
    module.recompile()


def spell_out_same_padding(module: fx.GraphModule) -> None:
    """Write convolutions that are padded by a word ("same", "valid") with numbers; an odd padding puts the larger half below and right."""
    for node in list(module.graph.nodes):
        if node.target is not aten.conv2d.padding:
            continue
        defaults: list[Any] = [None, [1, 1], "valid", [1, 1], 1]
        image, weight, bias, stride, word, dilation, groups = list(node.args) + defaults[len(node.args) - 2 :]
        totals = [d * (k - 1) if word == "same" else 0 for d, k in zip(dilation, constant(module, weight).shape[2:], strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
        with module.graph.inserting_before(node):
            if (top, left) != (bottom, right):
                image = called(module, aten.constant_pad_nd.default, image, [0, right - left, 0, bottom - top], 0.0, like=node)
            layer = called(module, aten.conv2d.default, image, weight, bias, stride, [top, left], dilation, groups, like=node)
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)
    module.recompile()


def fold_constants(module: fx.GraphModule) -> None:
    """Compute once what depends on weights alone, such as standardized or normed weights."""
    for node in list(module.graph.nodes):
        tensors = node.all_input_nodes
        if node.op != "call_function" or not tensors or any(part.op != "get_attr" for part in tensors):
            continue
        if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded in node.target.tags:
            continue
        with torch.no_grad():
            value = node.target(*fx.map_arg(node.args, lambda part: constant(module, part)), **node.kwargs)
        if isinstance(value, torch.Tensor):
            node.replace_all_uses_with(new_constant(module, f"{node.name}_value", value, before=node))
            module.graph.erase_node(node)
    clean(module)


def called(module: fx.GraphModule, target: Any, *arguments: Any, like: fx.Node) -> fx.Node:
    """Return a new operator at the insertion point, of the same layer as another one."""
    node = module.graph.call_function(target, arguments)
    node.meta = {key: value for key, value in like.meta.items() if key in ("nn_module_stack", "stack_trace")}
    return node


def constant(module: fx.GraphModule, node: Any) -> torch.Tensor:
    """Return the weight or buffer that a node stands for."""
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def new_constant(module: fx.GraphModule, name: str, value: torch.Tensor, *, before: fx.Node) -> fx.Node:
    """Return a node for a new weight, placed before another node: float32 unless it holds whole numbers; the name is made unique."""
    free = next(text for text in (f"{name}_{i}" for i in range(10_000)) if not hasattr(module, text))
    value = value.detach().contiguous()
    if value.is_floating_point():
        module.register_parameter(free, torch.nn.Parameter(value.float(), requires_grad=False))
    else:
        module.register_buffer(free, value)
    with module.graph.inserting_before(before):
        return module.graph.get_attr(free)


def clean(module: fx.GraphModule) -> None:
    """Remove operators and weights that nobody uses any more."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for owner, part in list(module.named_modules()):
        for name in [*part._parameters, *part._buffers]:
            if f"{owner}.{name}".removeprefix(".") not in used:
                delattr(part, name)
    module.graph.lint()
    module.recompile()
