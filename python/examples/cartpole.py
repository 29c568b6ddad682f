"""SB3's DQN on CartPole with its own replay buffer and with ours: mean returns by seed."""

import argparse

import hotlanes.sb3
import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy


def run(buffer, seed, steps):
    model = DQN(
        "MlpPolicy", "CartPole-v1", replay_buffer_class=buffer, seed=seed, device="cpu", learning_rate=2.3e-3,
        batch_size=64, buffer_size=100_000, learning_starts=1000, target_update_interval=10, train_freq=256,
        gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
    )
    model.learn(steps)
    return evaluate_policy(model, model.get_env(), n_eval_episodes=10)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50_000)
    arguments = parser.parse_args()
    for name, buffer in [("sb3", ReplayBuffer), ("hotlanes", hotlanes.sb3.ReplayBuffer)]:
        means = [run(buffer, seed, arguments.steps) for seed in range(arguments.seeds)]
        print(f"{name}: mean return {np.mean(means):.1f} of seeds {means}", flush=True)
