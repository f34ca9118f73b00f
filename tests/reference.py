"""The paper's update rules in float64 NumPy, typed from the paper; imports nothing of this project.

Each takes the weights before the step, the gradient and the momentum (and so on), and returns the
new ones. Slow and plain on purpose: tests compare the optimizers with these, step by step.

Source: arXiv:2302.06675 (Algorithms 1 and 2, section 4.6, and its early version); arXiv:1709.07417.
"""

import numpy as np


def lion(theta, g, m, *, lr, beta1, beta2, weight_decay):
    """Algorithm 2: the update uses m_{t-1}; the momentum is refreshed after the weights."""
    c = beta1 * m + (1 - beta1) * g
    new_theta = theta - lr * (np.sign(c) + weight_decay * theta)
    return new_theta, beta2 * m + (1 - beta2) * g


def hero_lion(theta, g, m, *, t, lr, beta1, beta2, weight_decay, correction_beta):
    """Early version, Algorithm 2 (reconstructed): m_{t-1} is corrected; m~_0 = 0."""
    m_tilde = m / (1 - correction_beta ** (t - 1)) if t > 1 else 0.0 * m
    c = beta1 * m_tilde + (1 - beta1) * g
    new_theta = theta - lr * (np.sign(c) + weight_decay * theta)
    return new_theta, beta2 * m + (1 - beta2) * g


def signed_momentum(theta, g, m, *, lr, beta, weight_decay):
    """The ablation of section 4.6: one beta, and the refreshed momentum is what is signed."""
    new_m = beta * m + (1 - beta) * g
    return theta - lr * (np.sign(new_m) + weight_decay * theta), new_m


def adamw(theta, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay):
    """Algorithm 1: AdamW as the paper writes it, lr times the decay too."""
    new_m = beta1 * m + (1 - beta1) * g
    new_v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = new_m / (1 - beta1**t), new_v / (1 - beta2**t)
    new_theta = theta - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * theta)
    return new_theta, new_m, new_v


def power_sign(theta, g, m, *, lr, beta, alpha, sign_decay, weight_decay):
    """Bello et al. 2017, plus decoupled decay; the average contains the new gradient."""
    new_m = beta * m + (1 - beta) * g
    update = alpha ** (sign_decay * np.sign(g) * np.sign(new_m)) * g
    return theta - lr * (update + weight_decay * theta), new_m


def add_sign(theta, g, m, *, lr, beta, alpha, sign_decay, weight_decay):
    """Bello et al. 2017, plus decoupled decay; the average contains the new gradient."""
    new_m = beta * m + (1 - beta) * g
    update = (alpha + sign_decay * np.sign(g) * np.sign(new_m)) * g
    return theta - lr * (update + weight_decay * theta), new_m
