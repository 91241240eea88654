"""Monte Carlo tree search in the world model, for all roots at once: the planner's eq. (1) without anchors.

A tree has decision nodes, which are observations, and below each action a chance node, whose branches are the model's outcomes;
a branch's next observation is drawn once. Probabilities are known, so a simulation backs up no sampled return but renews the
expectations along its path, and what is not expanded yet counts by its leaf value. A tree that is complete is therefore exact
(Keller and Helmert, "Trial-based Heuristic Tree Search for Finite Horizon MDPs", ICAPS 2013: DP-UCT). Rewards are scored as in
planner.py.

Which branch a simulation follows is not drawn either: it is the one that is furthest behind its share of the visits. Branches
below which the tree is complete are left out, so that every simulation adds a node.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Model
from rllib_wireless.algorithms.fedmorl.planner import PlannerValue, elapsed, state_value, supported
from rllib_wireless.algorithms.losses import interval_discount

_ROOTS = 1024  # searched at a time: what their trees hold stays below some hundred megabytes


@dataclass(frozen=True)
class Search:
    """What is searched, and how far.

    Args:
        model: Learned or exact.
        policy: The data's policy, probabilities [M, A] at observations [M, D]; the prior of PUCT.
        leaf: What observations [M, D] are worth where the tree ends, [M]; rewards scored against rho.
        gamma: Discount per unit of duration.
        rho: Reference reward rate.
        value: What an observation within the tree is worth, see `planner.solve`.
        simulations: Expansions of each tree after that of its root.
        depth: Decisions from the root to a leaf at most, the root's included.
        exploration: Constant of PUCT, in units of reward; counts only where `value` is `max`.
        rho_cost: Reference cost rate.
        cost_weight: What is planned for is reward - cost_weight * cost.
        support: See `planner.state_value`.
    """

    model: Model
    policy: Callable[[Tensor], Tensor]
    leaf: Callable[[Tensor], Tensor]
    gamma: float
    rho: float
    value: PlannerValue
    simulations: int
    depth: int
    exploration: float
    rho_cost: float = 0.0
    cost_weight: float = 0.0
    support: float = 0.0

    def plan(self, roots: Tensor, generator: torch.Generator) -> Tensor:
        """Q-values [R, A] of observations [R, D]; what a root gets does not depend on the roots after it."""
        seed = int(torch.randint(2**62, (), generator=generator))
        shift = torch.rand(roots.shape, generator=generator)
        parts = zip(torch.split(roots, _ROOTS), torch.split(shift, _ROOTS), strict=True)
        return torch.cat([self._plan(some, own, seed) for some, own in parts])

    @torch.no_grad()
    def _plan(self, roots: Tensor, shift: Tensor, seed: int) -> Tensor:
        trees = _Trees(self, roots, shift, seed)
        for _ in range(self.simulations):
            trees.simulate()
        return trees.q[:, 0]


class _Trees:
    """A tree for each of R roots, as arrays: N nodes, A actions, K outcomes; node 0 is the root."""

    def __init__(self, search: Search, roots: Tensor, shift: Tensor, seed: int) -> None:
        self._s, self._shift, self._seed = search, shift, seed
        self._every = torch.arange(len(roots))
        self._size = torch.zeros(len(roots), dtype=torch.long)  # nodes of each tree
        self._made = False
        self._expand(self._every, roots, level=torch.zeros(len(roots), dtype=torch.long))

    def simulate(self) -> None:
        """Go down each tree to a branch without a node, give it one, and renew the values on the way."""
        r, node = self._every, torch.zeros_like(self._every)
        going, grows = torch.ones_like(node, dtype=torch.bool), torch.zeros_like(node, dtype=torch.bool)
        path, tip, levels = [], self.obs[:, 0, 0, 0].clone(), torch.zeros_like(node)
        for level in range(self._s.depth):
            action = self._action(node, root=level == 0)
            outcome = self._outcome(node, action)
            branch = (r, node, action, outcome)
            going = going & self.alive[branch]
            path.append((branch, going))
            self.visits[branch] += going
            child = self.child[branch]
            new = going & (child < 0)
            tip[new], levels[new] = self.obs[branch][new], level + 1
            self.child[branch] = torch.where(new, self._size, child)
            grows, going = grows | new, going & (child >= 0)
            if not going.any():
                break
            node = torch.where(going, child, node)
        self._expand(torch.nonzero(grows)[:, 0], tip[grows], levels[grows])
        for branch, visited in reversed(path):
            self._back_up(branch, visited)

    def _action(self, node: Tensor, *, root: bool) -> Tensor:
        """The action [R] to follow from each tree's node [R], among those below which it can grow."""
        at = self._every, node
        visits, prior = self.visits[at].sum(-1), self.prior[at]
        total = visits.sum(-1, keepdim=True)
        if root:  # imitation weighs rare actions, too, so each gets its share
            score = -visits
        elif self._s.value == "data":  # the policy's value needs its actions as often as it takes them
            score = prior * (total + 1) - visits
        else:  # PUCT
            score = self.q[at] + self._s.exploration * prior * (total + 1).sqrt() / (1 + visits)
        return score.masked_fill(~self.alive[at].any(-1), -torch.inf).argmax(-1)

    def _outcome(self, node: Tensor, action: Tensor) -> Tensor:
        """The branch [R] that is furthest behind its share, which is its discounted probability."""
        at = self._every, node, action
        weight, visits = self.weight[at], self.visits[at]
        share = weight / weight.sum(-1, keepdim=True).clamp(min=1e-12)
        score = share * (visits.sum(-1, keepdim=True) + 1) - visits
        return score.masked_fill(~self.alive[at], -torch.inf).argmax(-1)

    def _expand(self, trees: Tensor, obs: Tensor, level: Tensor) -> None:
        """Give each of these trees a node `level` decisions below its root."""
        if not len(trees):
            return
        s, new = self._s, self._size[trees]
        o = s.model.outcomes(obs)
        if not self._made:
            self._make(*o.obs.shape)
        discount = interval_discount(s.gamma, o.duration, o.terminated > 0.5)
        time = elapsed(o.duration, discount, s.gamma)
        score = o.reward - s.rho * time - s.cost_weight * (o.cost - s.rho_cost * time)
        # One set of random numbers, rotated by each tree's own shift (Cranley and Patterson 1976).
        uniform = (self._uniform[new] + self._shift[trees, None, None]) % 1.0
        following = s.model.sample(o.obs, o.std, torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)))
        at = trees, new
        self.obs[at], self.weight[at] = following, o.prob * discount
        self.prior[at] = s.policy(obs)
        self.value[at] = s.leaf(following.flatten(0, 2)).reshape(o.prob.shape)
        self.score[at] = (o.prob * score).sum(-1)
        self.q[at] = self.score[at] + (self.weight[at] * self.value[at]).sum(-1)
        planned = supported(self.prior[at], s.support) if s.value == "max" else torch.ones_like(self.prior[at]) > 0
        planned = planned | (level == 0)[:, None]
        self.alive[at] = (self.weight[at] > 0) & planned.unsqueeze(-1) & (level + 1 < s.depth)[:, None, None]
        self._size[trees] += 1

    def _make(self, roots: int, actions: int, outcomes: int, width: int) -> None:
        """Allocate, now that the number of outcomes is known."""
        shape = (roots, self._s.simulations + 1, actions)
        self.prior, self.score, self.q = (torch.zeros(shape) for _ in range(3))
        self.weight, self.value, self.visits = (torch.zeros(*shape, outcomes) for _ in range(3))
        self.child = torch.full((*shape, outcomes), -1)
        self.alive = torch.zeros(*shape, outcomes, dtype=torch.bool)  # branches below which nodes can be added
        self.obs = torch.zeros(*shape, outcomes, width)
        generator = torch.Generator().manual_seed(self._seed)
        self._uniform = torch.rand(*shape[1:], outcomes, width, generator=generator)
        self._made = True

    def _back_up(self, branch: tuple[Tensor, Tensor, Tensor, Tensor], visited: Tensor) -> None:
        """Renew the value of a branch of each tree and the Q-value of its action."""
        r, child = self._every, self.child[branch]
        below = state_value(self.q[r, child], self.prior[r, child], self._s.value, self._s.support)
        known = visited & (child >= 0)
        self.value[branch] = torch.where(known, below, self.value[branch])
        self.alive[branch] &= ~known | self.alive[r, child].flatten(1).any(-1)
        at = branch[:3]
        self.q[at] = self.score[at] + (self.weight[at] * self.value[at]).sum(-1)
