"""Ray actors that come back by themselves after a crash, and calls that go on without those that are away."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from rllib_wireless.envs.plugins import env_vars

logger = logging.getLogger(__name__)


@contextmanager
def ray_with(cpus: float) -> Iterator[None]:
    """Start Ray with room for so many CPUs of actors, or use the cluster that RAY_ADDRESS names, unless it runs already."""
    if ray.is_initialized():
        yield
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, runtime_env={"env_vars": modules} if (modules := env_vars()) else None)
    else:
        room = max(os.cpu_count() or 1, math.ceil(cpus))
        ray.init("local", num_cpus=room, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


class ManagedActor:
    """What an actor class needs to be in an `ActorPool`.

    RLlib's own mixin ends the process at any exception; here an exception travels to the caller, so that a user's mistake
    is told once instead of restarting the actor for ever.
    """

    def ping(self) -> str:
        """Answer that the actor is alive."""
        return "pong"

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function with this actor."""
        return func(self, *args, **kwargs)


class ActorPool:
    """Actors of one class; Ray restarts one that dies, with the arguments it was made with.

    Args:
        actor_class: A `ManagedActor`.
        arguments: Keyword arguments of each actor.
        num_cpus: CPUs that Ray reserves for each.
    """

    def __init__(self, actor_class: type, arguments: Sequence[Mapping[str, Any]], *, num_cpus: float = 1) -> None:
        # A Ray that ran before knows nothing of modules that were named since.
        options = {"runtime_env": {"env_vars": modules}} if (modules := env_vars()) else {}
        remote = ray.remote(num_cpus=num_cpus, max_restarts=-1, **options)(actor_class)
        self._manager = FaultTolerantActorManager([remote.remote(**a) for a in arguments])
        self._size = len(arguments)

    def __len__(self) -> int:
        return self._size

    @property
    def num_healthy(self) -> int:
        """Number of actors that answered last time."""
        return int(self._manager.num_healthy_actors())

    def restore(self, timeout_s: float) -> list[int]:
        """Take actors that Ray has restarted back into service.

        Args:
            timeout_s: How long to wait for those that are not back yet; 0 takes whoever is.

        Returns:
            Their indices.
        """
        deadline = time.monotonic() + timeout_s
        back: list[int] = []
        while True:
            back += self._manager.probe_unhealthy_actors(
                timeout_seconds=max(deadline - time.monotonic(), 0.0), mark_healthy=True
            )
            if self.num_healthy == len(self) or time.monotonic() >= deadline:
                return back
            # A call to an actor that is just restarting fails at once.
            time.sleep(0.05)

    def call(
        self, method: str, arguments: Mapping[int, Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[int, Any]:
        """Call a method of some actors side by side.

        Args:
            method: Its name.
            arguments: Keyword arguments by index of the actor; actors out of service are left out.
            timeout_s: How long to wait for answers; for ever if None.

        Returns:
            Answers by index. An actor that died or was too late is missing.

        Raises:
            Exception: What the method raised, if it did.
        """
        if not arguments:
            return {}
        results = self._manager.foreach_actor(
            [method] * len(arguments),
            kwargs=[dict(a) for a in arguments.values()],
            remote_actor_ids=list(arguments),
            timeout_seconds=timeout_s,
        )
        answers = {}
        for result in results:
            error = None if result.ok else result.get()
            if isinstance(error, RayTaskError):
                raise error.cause if isinstance(error.cause, Exception) else error
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise error
            if error is None:
                answers[result.actor_id] = result.get()
        if lost := sorted(set(arguments) - set(answers)):
            logger.warning("%s: no answer from actors %s; going on without them", method, lost)
        return answers

    def map(self, method: str, arguments: Sequence[Mapping[str, Any]], *, timeout_s: float) -> list[Any]:
        """Do pieces of work on whichever actors are in service; a piece whose actor is lost is done by another.

        Args:
            method: Name of the method that does a piece.
            arguments: Keyword arguments of each piece.
            timeout_s: How long to go on without any answer.

        Returns:
            The answers in the order of the pieces.

        Raises:
            TimeoutError: Where no actor answered for so long.
            Exception: What the method raised, if it did.
        """
        answers: dict[int, Any] = {}
        last_answer = time.monotonic()
        while len(answers) < len(arguments):
            self.restore(timeout_s if self.num_healthy == 0 else 0.0)
            todo = [k for k in range(len(arguments)) if k not in answers]
            piece_of = dict(zip(self._manager.healthy_actor_ids(), todo, strict=False))
            new = self.call(method, {a: arguments[k] for a, k in piece_of.items()}, timeout_s=timeout_s)
            answers.update({piece_of[a]: answer for a, answer in new.items()})
            last_answer = time.monotonic() if new else last_answer
            if time.monotonic() - last_answer > timeout_s:
                raise TimeoutError(f"{method}: none of {len(self)} actors answered for {timeout_s:g} s")
        return [answers[k] for k in range(len(arguments))]

    def stop(self) -> None:
        """End all actors."""
        self._manager.clear()
