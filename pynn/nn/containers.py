"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from pynn.arguments import several
from pynn.nn.module import Module


class _Numbered(Module):
    """Children under the names "0", "1", ..., as PyTorch has them."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in several("modules", modules):
            self.append(module)

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns the container."""
        number = len(self)
        while str(number) in self.__dict__:  # one before it was deleted
            number += 1
        setattr(self, str(number), self._checked(module))
        return self

    def _checked(self, module: Module) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"a {type(self).__name__} holds modules, got {type(module).__name__}")
        return module

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return iter([child for _, child in self.named_children()])

    def _name(self, index: int) -> str:
        names = [name for name, _ in self.named_children()]
        if not -len(names) <= index < len(names):
            raise IndexError(f"index {index} is outside 0..{len(names) - 1}")
        return names[index]

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)._of(list(self)[index])
        return getattr(self, self._name(index))

    @classmethod
    def _of(cls, modules: list[Module]) -> Module:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), self._checked(module))

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        for name, _ in list(self.named_children()):
            delattr(self, name)
        for module in modules:
            self.append(module)


class Sequential(_Numbered):
    """Modules one after the other: y = last(...(first(x))).

    Args:
        modules: in order of running. `model[i]`, slices, `del`, `len`, iteration and `append` work
            as for a list.
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    @classmethod
    def _of(cls, modules: list[Module]) -> Module:
        return cls(*modules)

    def forward(self, x: Any) -> Any:
        """Run each module on what the one before made."""
        for module in self:
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules that the model knows; forward of the module that holds it says how they
    run.

    Args:
        modules: any iterable of modules.
    """

    @classmethod
    def _of(cls, modules: list[Module]) -> Module:
        return cls(modules)
