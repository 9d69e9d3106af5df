"""Times LoRA training steps and denoising steps of Stable Video Diffusion, in its real size with random weights."""
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gi.diffusion.codec import PixelShuffle
from gi.diffusion.condition import Condition
from gi.diffusion.lora import add_lora
from gi.diffusion.network import Conditions, KeyframeDiffusion
from gi.diffusion.token import LinearToken
from tools.benchmark.device import PeakMemory, synchronize
from tools.gpu.settings import Sizes

RANK = 32
LATENTS = 4
CLIPS = (14, 320, 576), (25, 320, 576), (25, 576, 1024)  # frames, height, width
TINY = ((2, 64, 64),)
TOKEN = 1024


class Repurposed:
    """Frozen weights in bfloat16, LoRA and the input convolution in float32, AdamW; one clip at a time."""

    def __init__(self, device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]):
        self.device, self.result, self.say = device, result, say
        self.clips = TINY if sizes.tiny else CLIPS
        self.repeats = 2 if sizes.tiny else 3
        self.network = self._network({"block_out_channels": (32, 32, 64, 64), "num_attention_heads": (1, 1, 2, 2),
                                      "layers_per_block": 1} if sizes.tiny else {})
        trained = self.network.trainable_parameters()
        self.optimizer = torch.optim.AdamW(trained, lr=5e-5)
        result["parameters"] = sum(p.numel() for p in self.network.unet.parameters())
        result["trained"] = sum(p.numel() for p in trained)
        say(f"  {result['parameters']:,} parameters, {result['trained']:,} of them trained")

    def run(self) -> None:
        """All cases; one that runs out of memory is recorded and the others go on."""
        for clip in self.clips:
            self._case(f"denoise {_name(clip)}", clip, self._denoise)
        for clip in self.clips:
            self._case(f"step {_name(clip)}, all blocks checkpointed", clip, self._step, checkpointing=True)
        self._case(f"step {_name(self.clips[0])}, without checkpointing", self.clips[0], self._step)
        for clip in self.clips:
            self._case(f"step {_name(clip)}, diffusers' own checkpointing", clip, self._step, own=True)

    def _network(self, options):
        from diffusers import UNetSpatioTemporalConditionModel
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(self.device):
                unet = UNetSpatioTemporalConditionModel(in_channels=3 * LATENTS, **options)
        finally:
            torch.set_default_dtype(before)
        unet = unet.to(self.device)
        add_lora(unet, RANK)
        return KeyframeDiffusion(unet, PixelShuffle(), Condition("symmetric"), LinearToken(8).requires_grad_(False))

    def _case(self, name: str, clip: tuple[int, int, int], work: Callable[..., Tensor], *, checkpointing: bool = False,
              own: bool = False) -> None:
        frames, height, width = clip
        self.network.checkpointing(checkpointing)
        if own:
            self.network.unet.enable_gradient_checkpointing()
        z, noise = (torch.randn(1, frames, LATENTS, height // 8, width // 8, device=self.device) for _ in range(2))
        conditions = Conditions(torch.randn(1, frames, 2 * LATENTS, *z.shape[-2:], device=self.device),
                                torch.randn(1, 1, TOKEN, device=self.device))
        memory, seconds = PeakMemory(self.device), []
        try:
            for _ in range(1 + self.repeats):
                memory.start()
                synchronize(self.device)
                start = time.perf_counter()
                work(z, noise, conditions)
                synchronize(self.device)
                seconds.append(time.perf_counter() - start)
                memory.stop()
        except RuntimeError as error:  # most likely out of memory
            self.result[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            self.say(f"  {name}: {type(error).__name__}")
            self.optimizer.zero_grad()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return
        self.result[name] = {"seconds": seconds[1:], "median": sorted(seconds[1:])[self.repeats // 2],
                             "memory": memory.peak}
        self.say(f"  {name}: {self.result[name]['median']:.3f} s, {(memory.peak or 0) / 2**30:.2f} GiB")

    def _call(self, z, conditions):
        sigma = torch.ones(1, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.network(z, sigma, conditions, torch.tensor([[6.0, 127.0, 0.0]], device=self.device))

    @torch.no_grad()
    def _denoise(self, z, noise, conditions):
        return self._call(z, conditions)

    def _step(self, z, noise, conditions):
        loss = nn.functional.mse_loss(self._call(z + noise, conditions).float(), z)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def time_repurposed(device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]) -> None:
    """Seconds and peak memory of denoising a clip and of a training step, with and without checkpointing."""
    Repurposed(device, sizes, result, say).run()


def _name(clip):
    return "x".join(map(str, clip))
