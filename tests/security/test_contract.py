"""A short run of the contract fuzzing of `make fuzz`: every operation, all checks, a few examples each."""

from tests.security.conftest import RunningServer
from tests.security.fuzz import fuzz


def test_every_operation_answers_as_its_document_says(running: RunningServer) -> None:
    options = ("--seed", "20260131", "--max-examples", "4", "--phases", "examples,coverage,stateful")
    outcome = fuzz(running.process, running.operator_key, *options)
    print(f"{outcome.cases} cases over {outcome.operations} operations")
    assert outcome.passed, outcome.report
    assert outcome.operations >= 40
    assert outcome.cases > 1000
