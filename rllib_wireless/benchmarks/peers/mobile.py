"""mobile-env's multi-agent environment, run as a script by the Python of an environment that has it.

Only the standard library is imported at the top, so that the environment needs nothing of this package.
"""

import json
import random
import sys
import time

VARIABLE = "RLLIB_WIRELESS_MOBILE_ENV"
"""Environment variable with the Python of an environment that has mobile-env; docs/benchmarks.md says how to make one."""


def measure(stations: int, users: int, steps: int, repeats: int) -> float:
    """User-steps per second of CPU time in the fastest of some runs.

    Its agents are the users, which connect to stations, and its episodes last 100 steps. Random actions are drawn before.
    """
    from mobile_env.core.base import MComCore  # type: ignore[import-not-found,unused-ignore]
    from mobile_env.core.entities import (  # type: ignore[import-not-found,unused-ignore]
        BaseStation,
        UserEquipment,
    )
    from mobile_env.handlers.multi_agent import MComMAHandler  # type: ignore[import-not-found,unused-ignore]

    generator = random.Random(0)
    config = MComCore.default_config()
    places = [(generator.uniform(0, config["width"]), generator.uniform(0, config["height"])) for _ in range(stations)]
    env = MComCore(
        [BaseStation(number, place, **config["bs"]) for number, place in enumerate(places)],
        [UserEquipment(number, **config["ue"]) for number in range(users)],
        {"handler": MComMAHandler},
    )
    actions = [{user: generator.randint(0, stations) for user in range(users)} for _ in range(64)]
    rates = []
    for _ in range(repeats):
        env.reset(seed=0)
        start = time.process_time()
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[step % len(actions)])
            if _ended(terminated) or _ended(truncated):
                env.reset()
        rates.append(steps * users / (time.process_time() - start))
    return max(rates)


def _ended(flag: object) -> bool:
    return any(flag.values()) if isinstance(flag, dict) else bool(flag)


if __name__ == "__main__":
    print(json.dumps(measure(*(int(argument) for argument in sys.argv[1:]))))
