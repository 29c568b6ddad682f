"""SB3's DQN on CartPole with its own replay buffer and with ours: the mean return as training goes on, over seeds."""

import argparse

import hotlanes.sb3
import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy


class Evaluations(BaseCallback):
    """Mean returns of 10 episodes in an environment of their own, each so many steps."""

    def __init__(self, seed, every):
        super().__init__()
        self.every, self.returns = every, []
        self.env = make_vec_env("CartPole-v1", seed=1000 + seed)

    def _on_step(self):
        if self.num_timesteps % self.every == 0:
            self.returns.append(evaluate_policy(self.model, self.env, n_eval_episodes=10)[0])
        return True


def run(buffer, seed, steps, every):
    model = DQN(
        "MlpPolicy", "CartPole-v1", replay_buffer_class=buffer, seed=seed, device="cpu", learning_rate=2.3e-3,
        batch_size=64, buffer_size=100_000, learning_starts=1000, target_update_interval=10, train_freq=256,
        gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
    )
    evaluations = Evaluations(seed, every)
    model.learn(steps, callback=evaluations)
    return evaluations.returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5_000, help="steps between evaluations")
    arguments = parser.parse_args()
    print("| buffer |", " | ".join(str(at) for at in range(arguments.every, arguments.steps + 1, arguments.every)), "|")
    for name, buffer in [("sb3", ReplayBuffer), ("hotlanes", hotlanes.sb3.ReplayBuffer)]:
        seeds = range(arguments.seeds)
        curves = np.array([run(buffer, seed, arguments.steps, arguments.every) for seed in seeds])
        error = curves.std(0, ddof=1) / np.sqrt(len(curves)) if len(curves) > 1 else np.zeros(curves.shape[1])
        print(f"| {name} |", " | ".join(f"{m:.0f} ±{e:.0f}" for m, e in zip(curves.mean(0), error)), "|", flush=True)
