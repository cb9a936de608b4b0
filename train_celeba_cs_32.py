"""Train arm CS: noise curriculum with a hard channel mask that regrows, on CelebA at 32×32.

    torchrun --standalone --nproc_per_node=4 train_celeba_cs_32.py
    CUDA_VISIBLE_DEVICES=0 torchrun --nproc_per_node=1 --master_port=29501 train_celeba_cs_32.py
    python train_celeba_cs_32.py --dataset avatars --set training.steps=1500

Settings: mindiffusion/presets/celeba_cs_32.yaml. Checkpoints go to checkpoints_cs_32/seed<k>/,
sample grids to contents_cs_32/seed<k>/. The same command resumes. Options: --help.
"""

from mindiffusion.cli import main

if __name__ == "__main__":
    main("celeba_cs_32")
