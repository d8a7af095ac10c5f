"""The plan behind `task_spec.type: demo`: what a small company would really do, with parallel work and joins."""

from __future__ import annotations

from contracts.plan import PlanGraph
from services.planner.domain.graph import completed

DEMO = completed(
    PlanGraph.model_validate(
        [
            {
                "id": "brief",
                "title": "Write the launch brief for Harbour, a shared calendar for small teams",
                "suggested_agent_role": "product manager",
                "instructions": "One page: the problem, who has it, what Harbour does about it, and what the launch must "
                "achieve in its first month. Name figures to measure it by.",
                "acceptance": ["names the audience", "states three measurable goals"],
                "assumptions": ["teams of 3 to 20 people", "sold by subscription, free for the first three seats"],
            },
            {
                "id": "market",
                "title": "Research the market and three competitors",
                "deps": ["brief"],
                "suggested_agent_role": "market analyst",
                "instructions": "Compare three shared calendars: price, strength, weakness, and what their users miss. "
                "Say where Harbour can win.",
                "acceptance": ["compares three competitors in a table", "names the gap Harbour fills"],
                "risks": ["prices change often: say which date they are from"],
            },
            {
                "id": "interviews",
                "title": "Draft the questions for five customer interviews",
                "deps": ["brief"],
                "suggested_agent_role": "user researcher",
                "instructions": "Ten open questions on how a team plans its week today, in the order to ask them.",
                "acceptance": ["ten open questions", "no question suggests its answer"],
            },
            {
                "id": "positioning",
                "title": "Decide positioning and message",
                "deps": ["market", "interviews"],
                "suggested_agent_role": "strategist",
                "instructions": "One sentence of positioning, three messages with the evidence for each, and what we "
                "will not claim.",
                "acceptance": ["one positioning sentence", "each message has evidence"],
                "risks": ["the message may please us more than the customers"],
            },
            {
                "id": "landing_page",
                "title": "Write the landing page",
                "deps": ["positioning"],
                "suggested_agent_role": "copywriter",
                "instructions": "Headline, subline, three sections with a benefit each, room for a quotation, and one "
                "call to action. Markdown.",
                "acceptance": ["one call to action", "no section above 60 words"],
            },
            {
                "id": "announcement",
                "title": "Write the announcement mail",
                "deps": ["positioning"],
                "suggested_agent_role": "copywriter",
                "instructions": "At most 150 words to the waiting list: what is new, for whom, what to do now.",
                "acceptance": ["at most 150 words", "a subject line"],
            },
            {
                "id": "launch_plan",
                "title": "Assemble the launch plan and check it against the brief",
                "deps": ["landing_page", "announcement"],
                "suggested_agent_role": "launch lead",
                "instructions": "Who does what on which day of the launch week, what could go wrong and what we do "
                "then, and whether each goal of the brief is covered.",
                "acceptance": ["a day-by-day table", "every goal of the brief is addressed"],
                "deliverables": ["preview"],
                "risks": ["mail reputation is new: send in three batches"],
            },
        ]
    )
)
