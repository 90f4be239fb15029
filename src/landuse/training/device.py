"""How the arithmetic is done: device, precision, memory layout, allocator. Decided once, printed, recorded."""

import contextlib
import logging
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landuse.allocator import keep_freed_memory
from landuse.config.schema import HardwareConfig
from landuse.data.augment.transfer import to_device
from landuse.errors import UserError

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARE_OF_FREE_MEMORY = 0.4  # of the device, that a resident dataset may take


@dataclass(frozen=True)
class Runtime:
    """The decisions of :func:`build_runtime`."""

    device: torch.device
    precision: str  # fp32 | bf16 | fp16
    channels_last: bool
    compile: bool
    num_threads: int
    allocator: str  # keep | system
    dataset_on_device: bool | None  # None: where it fits

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of every forward pass."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in the chosen memory layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return model.to(device=self.device, memory_format=layout)  # type: ignore[call-overload,no-any-return]

    def fits(self, num_bytes: int) -> bool:
        """Whether a dataset of this size is to be held on the device."""
        if self.dataset_on_device is not None:
            return self.dataset_on_device
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return num_bytes <= SHARE_OF_FREE_MEMORY * free

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy on the device; on CUDA the host does not wait for it."""
        return to_device(tensor, self.device)

    def describe(self) -> dict[str, Any]:
        """For logs and provenance.json."""
        return {**asdict(self), "device": str(self.device), "device_name": device_name(self.device)}


def build_runtime(
    device: str, hardware: HardwareConfig, model: nn.Module, deterministic: bool = False,
    smallest_px: int | None = None,
) -> Runtime:  # fmt: skip
    """Decide what ``auto`` and null leave open and set torch's global switches accordingly.

    Args:
        model: not placed yet.
        smallest_px: of the images that the model is to be trained on; None: it is not to be trained.

    Raises:
        UserError: the device is not there, this build of torch cannot use it, or it cannot train in this precision.
    """
    chosen = _pick_device(device)
    if chosen.type == "cpu" and hardware.precision == "fp16":
        raise UserError("hardware.precision=fp16 has no use on the CPU: use bf16, fp32 or auto.")
    precision = hardware.precision if hardware.precision != "auto" else _pick_precision(chosen, model)
    if chosen.type == "cpu" and precision == "bf16" and smallest_px is not None and _outstrides(model, smallest_px):
        if hardware.precision == "bf16":
            raise UserError(
                f"hardware.precision=bf16: at {smallest_px} px a strided convolution meets a map narrower than its "
                "stride, whose gradient the CPU's bf16 kernels get wrong: use fp32 or auto, or larger images."
            )
        precision = "fp32"
    if hardware.num_threads is not None:
        torch.set_num_threads(hardware.num_threads)
    keep = hardware.allocator == "keep" or (hardware.allocator == "auto" and chosen.type == "cpu")
    runtime = Runtime(
        device=chosen,
        precision=precision,
        channels_last=hardware.channels_last if hardware.channels_last is not None else chosen.type != "mps",
        compile=hardware.compile,
        num_threads=torch.get_num_threads(),
        allocator="keep" if keep and keep_freed_memory() else "system",
        dataset_on_device=hardware.dataset_on_device,
    )
    _set_switches(runtime, deterministic)
    shown = ", ".join(f"{key} {value}" for key, value in runtime.describe().items() if value is not None)
    log.info("hardware: %s", shown)
    return runtime


def _pick_device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"trainer.device={name}: there is a GPU, but this torch ({torch.__version__}) cannot use it; install "
            "a CUDA build that fits the driver, or use trainer.device=cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("trainer.device=mps: this torch or macOS does not support it; use trainer.device=cpu.")
    return device


def _pick_precision(device: torch.device, model: nn.Module) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type != "cpu" or not _cpu_has_bf16():
        return "fp32"
    # Depthwise convolutions have no fast bf16 kernel on CPUs: efficientnet_b0 trains at 0.45 x, mobilenet_v3_small at
    # 0.65 x the speed of fp32, while dense convolutions gain 1.7 x and more (AMD EPYC with avx512_bf16, torch 2.15).
    depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 and m.groups == m.in_channels for m in model.modules())
    return "fp32" if depthwise else "bf16"


def _outstrides(model: nn.Module, side_px: int) -> bool:
    """Whether a padded, strided convolution meets a map narrower than its stride, when images are this wide.

    Of such a weight's gradient oneDNN's bf16 kernels leave some elements as they found the memory, be it NaN (torch
    2.15 and oneDNN 3 on a Xeon with AMX; strides 2 to 4, kernels 3 to 7). In fp32 all is well.
    """
    narrow: list[str] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        assert isinstance(module, nn.Conv2d)
        maps = inputs[0] if inputs else named["input"]
        is_padded = module.padding != "valid" and any(module.padding)
        if is_padded and any(side < by for side, by in zip(maps.shape[-2:], module.stride, strict=True)):
            narrow.append(str(module))

    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    strided = [module for module in convolutions if max(module.stride) > 1 and module.weight.requires_grad]
    if not strided:
        return False
    handles = [module.register_forward_pre_hook(look, with_kwargs=True) for module in strided]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, 3, side_px, side_px))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return bool(narrow)


def _cpu_has_bf16() -> bool:
    """Native bf16 arithmetic; emulated, it is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _set_switches(runtime: Runtime, deterministic: bool) -> None:
    torch.set_float32_matmul_precision("high" if runtime.precision != "fp32" else "highest")
    torch.backends.cudnn.allow_tf32 = runtime.precision != "fp32"  # on by default, and not what fp32 means
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler
        torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's own condition for determinism
        # Filling fresh memory costs a pass per tensor and helps only code that reads what it never wrote.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def device_name(device: torch.device) -> str:
    """The product's name, where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())
