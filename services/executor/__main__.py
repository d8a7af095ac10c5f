"""python -m services.executor"""

from chassis.service import run
from services.executor.app import build
from services.executor.settings import ExecutorSettings

if __name__ == "__main__":
    run("executor", ExecutorSettings, build)
