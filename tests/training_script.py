"""A small training for other processes to start, kill, resume or share: python training_script.py OUT STEPS [resume] [PICTURES.npy, to be streamed]"""
import sys

from layerbench.data.scenes import Scenes
from layerbench.data.streams import mapped
from layerbench.train import train


def main(out, steps, resume, file=None):
    # 18 px pictures: enough for 16 px crops; steps to a page of 4 and a checkpoint at every page, so that a kill finds something to lose
    train("perturbgan", mapped(file) if file else Scenes(18).pictures(40), out, preset="smoke", overrides={"stage_images": (240, 100_000)}, steps=steps, resume=resume, device="cpu",
          threads=1, stream=bool(file), every=4, save_seconds=0., look_seconds=1e9, progress=False)


if __name__ == "__main__": main(sys.argv[1], int(sys.argv[2]), "resume" in sys.argv[3:], next((w for w in sys.argv[3:] if w.endswith(".npy")), None))
