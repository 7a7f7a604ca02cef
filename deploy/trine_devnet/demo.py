"""The demo: honest and cheating nodes answer real prompts, committees judge them, and the chain tells who was right.

Everything that decides success is read back from the chain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import openai
from eth_account.signers.local import LocalAccount

from trine import Answer, Client, VerificationFailed
from trine.audit import batch_gas, operator_report
from trine.chain import Chain, Role
from trine.errors import NotReady
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Receipt, text_hash
from trine.protocol.votes import Vote
from trine_devnet.acts.act import Act
from trine_devnet.acts.programme import Programme
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.options import Options
from trine_devnet.outcomes import HOT, Outcome, Seen, Standing, cut, summary, vote_line
from trine_devnet.paying import PAID_BY_X402
from trine_devnet.reporting import Report
from trine_devnet.waiting import wait_until
from trine_verifier.store import VerifierStore

LOOK_SECONDS = 2.0
"""How long to wait for a certificate before looking how far it is."""
ACT_LOOK_SECONDS = 0.4
DEPOSIT = 100 * TOKEN

QUESTIONS = (
    ("What is the capital of France?", "sdk"),
    ("Explain why the sky is blue in two sentences.", "sdk"),
    ("Write a short story about a robot who learns to paint.", "sdk, streamed"),
    ("List three uses of a paper clip.", "openai, streamed"),
    ("Quelle est la capitale de l'Espagne ? Réponds en une phrase.", "openai"),
    ("Give me a surprising answer.", HOT),
)
CHEATED_QUESTIONS = (
    "Describe the life cycle of a butterfly.",
    "What makes bread rise in the oven?",
    "Give some advice to a new student.",
)


class Demo:
    """One run over a started chain. `report` gets a line for everything that happens."""

    def __init__(self, net: Devnet, options: Options, report: Report, acts: Sequence[Act] = ()) -> None:
        self.net = net
        self.options = options
        self.report = report
        self.acts = acts
        self._first: float | None = None
        self._given_up = threading.Event()
        self._lock = threading.Lock()

    def members(self) -> list[Member]:
        nodes = [
            Member(f"node-{dtype}" if index < 1 or dtype not in self.options.node_dtypes[:index] else
                   f"node-{dtype}-{index}", Role.NODE, dtype, options=PAID_BY_X402 if index == 1 else {},
                   agent=index == 0)
            for index, dtype in enumerate(self.options.node_dtypes)
        ]  # fmt: skip
        verifiers = [
            Member(
                f"verifier-{index + 1}",
                Role.VERIFIER,
                dtype,
                ("honest",) if index < len(self.options.cheating_verifiers) else (),
            )
            for index, dtype in enumerate(self.options.verifier_dtypes)
        ]
        cheater = [Member("cheater", Role.NODE, "fp32", self.options.cheats)] if self.options.cheats else []
        return [*verifiers, *nodes, *cheater]

    def run(self) -> Outcome:
        """Starts the operators, asks, waits for every verdict, checks what the chain holds."""
        members = self.members()
        nodes = [member for member in members if member.role is Role.NODE]
        # All that a first certified answer takes; who comes later does not slow it down.
        first = [member for member in members if member.role is Role.VERIFIER or member is nodes[0]]
        self.net.add(first, self.options.threads)
        client = self.net.create_client()
        chain = self.net.chain(client)
        before = self._standings(chain, client)
        jobs = self._jobs(nodes)
        questions = [question for asked in jobs.values() for question in asked]
        pool = ThreadPoolExecutor(len(nodes) + len(questions), thread_name_prefix="asker")
        try:
            # The first answer is made while verifiers are calibrated, and waits for the last one that it takes.
            # Operators that fail to come up end the wait with their log.
            self._see([], [], "operators to be calibrated", lambda: nodes[0].name not in self.net.states())
            futures = [pool.submit(self._ask_all, nodes[0].name, jobs[nodes[0].name], client, pool)]
            self._see(futures, jobs[nodes[0].name], "the first answer", lambda: jobs[nodes[0].name][0].is_certified)
            later = [member for member in members if member not in first]
            self.net.add(later, self.options.threads)
            before |= {name: now for name, now in self._standings(chain, client).items() if name not in before}
            self.net.wait_ready()
            self.tell_verifiers()
            futures += [pool.submit(self._ask_all, node.name, jobs[node.name], client, pool) for node in nodes[1:]]
            with self._programme(quick=True) as beside:

                def over() -> bool:
                    return beside.is_over and all(future.done() for future in futures)

                self._see(futures, questions, "answers and verdicts", over, beside)
            for future in futures:
                future.result()
        finally:
            self._given_up.set()
            # After an error the operators are stopped next, which ends what is still asked of them.
            pool.shutdown(wait=False, cancel_futures=True)
        for question in questions:
            self._judge(question, chain)
        after = self._standings(chain, client)
        failures = self._failures(questions, chain)
        return self._with_acts(Outcome(questions, before, after, self._first, failures, beside.played))

    def perform(self) -> Outcome:
        """The acts alone: starts operators if one of them plays on this network, and asks no questions."""
        played = []
        if any(act.is_quick for act in self.acts):
            self.net.add(self.members(), self.options.threads)
            self.net.wait_ready()
            with self._programme(quick=True) as programme:
                self._watch(programme)
            played = programme.played
        return self._with_acts(Outcome([], {}, {}, None, [], played))

    def _with_acts(self, outcome: Outcome) -> Outcome:
        """Plays those that have networks of their own, one after the other, and adds what has failed."""
        with self._programme(quick=False) as programme:
            self._watch(programme)
        outcome.played += programme.played
        outcome.failures += [f"{act.act.name}: {act.said}" for act in outcome.played if not act.holds]
        return outcome

    def _programme(self, *, quick: bool) -> Programme:
        acts = [act for act in self.acts if act.is_quick == quick]
        home = self.net.home.with_name(f"{self.net.home.name}-acts")
        return Programme(acts, self.net, self.report, home, side_by_side=len(acts) if quick else 1)

    def _watch(self, programme: Programme) -> None:
        """Each act notices itself when nothing moves any more."""
        try:
            while not programme.is_over:
                self.report.progress("what else is shown", programme.states)
                time.sleep(ACT_LOOK_SECONDS)
        finally:
            self.report.end_progress()

    def _see(
        self,
        futures: list[Future[None]],
        questions: list[Seen],
        what: str,
        done: Callable[[], bool],
        beside: Programme | None = None,
    ) -> None:
        """Shows how far questions and acts are, until `done`, or all questions are if no acts are played.

        Raises NotReady when nothing moves any more.
        """

        def states() -> Mapping[str, str]:
            asked = {f"{q.node} {cut(q.prompt, 24)!r}": q.state for q in questions if q.state}
            return {**self.net.states(), **asked, **(beside.states if beside else {})}

        children = [running.child for running in self.net.operators.values()]

        def over() -> bool:
            return done() or (beside is None and bool(futures) and all(future.done() for future in futures))

        wait_until(over, what, children, self.report, states)

    def tell_verifiers(self) -> None:
        """Those who cheat begin to, in league with the node that does."""
        if not self.options.cheating_verifiers:
            return
        self.net.wait_ready()
        league = ["cheater"] if "cheater" in self.net.operators else []
        for index, cheat in enumerate(self.options.cheating_verifiers):
            self.net.tell(f"verifier-{index + 1}", cheat, league)
            self.report.say(f"verifier-{index + 1} from now on: {cheat}")

    def _jobs(self, nodes: list[Member]) -> dict[str, list[Seen]]:
        jobs: dict[str, list[Seen]] = {node.name: [] for node in nodes}
        honest = [node.name for node in nodes if not node.cheats]
        free = [node.name for node in nodes if not node.cheats and node.options != PAID_BY_X402]
        asked = [*QUESTIONS, *((prompt, "sdk") for prompt in self.options.prompts)]
        for index, (prompt, via) in enumerate(asked):
            asked_of = free if via.startswith("openai") else honest
            name = asked_of[index % len(asked_of)]
            jobs[name].append(Seen(prompt, via, name))
        for index, cheat in enumerate(self.options.cheats):
            prompt = CHEATED_QUESTIONS[index % len(CHEATED_QUESTIONS)]
            jobs["cheater"].append(Seen(prompt, "sdk", "cheater", cheat))
        return jobs

    def _ask_all(self, node: str, questions: list[Seen], account: LocalAccount, pool: ThreadPoolExecutor) -> None:
        """Asks one question after the other; what becomes of the answers is seen to beside."""
        endpoint = self.net.operators[node].endpoint
        with Client(
            rpc_url=self.net.rpc_url,
            deployment=self.net.deployment_file,
            account=account,
            node=endpoint,
            deposit_wei=DEPOSIT,
        ) as client:
            judged = []
            for question in questions:
                self._ask(question, client, endpoint)
                if question.answer and self._first is None:
                    # Nothing competes with the first certificate: a newcomer waits for it.
                    self._certify(question, client, question.answer, final=False)
                if question.answer:
                    judged.append(pool.submit(self._certify_all, question, client, question.answer))
            for future in judged:
                future.result()

    def _certify_all(self, question: Seen, client: Client, answer: Answer) -> None:
        """Waits for the verdict, and until nobody can appeal it: only then is a node slashed and its record written."""
        if question.certificate is None:
            self._certify(question, client, answer, final=False)
        if question.certificate:
            self._certify(question, client, answer, final=True)

    def _ask(self, question: Seen, client: Client, endpoint: str) -> None:
        ways: dict[str, Callable[[], None]] = {
            "sdk": lambda: self._ask_sdk(question, client),
            "sdk, streamed": lambda: self._ask_streaming(question, client),
            "openai": lambda: self._ask_openai(question, endpoint, stream=False),
            "openai, streamed": lambda: self._ask_openai(question, endpoint, stream=True),
            HOT: lambda: self._ask_hot(question, endpoint),
        }
        question.state = "being answered"
        try:
            ways[question.via]()
        except Exception as error:  # noqa: BLE001  (one failed question must not hide the others; it fails the demo)
            question.fault = f"{type(error).__name__}: {error}"
        if self._given_up.is_set():
            return  # stopped: what is cut short says nothing about the node
        question.state = "answered" if question.answer else ""
        self.report.say(f"{question.node:<10} {question.via:<16} {cut(question.prompt, 44)!r}: {summary(question)}")

    def _ask_sdk(self, question: Seen, client: Client) -> None:
        question.answer = client.chat(question.prompt, max_tokens=self.options.max_tokens)

    def _ask_streaming(self, question: Seen, client: Client) -> None:
        stream = client.stream(question.prompt, max_tokens=self.options.max_tokens)
        pieces = list(stream)
        question.answer = stream.answer
        if len(pieces) < 2:
            raise VerificationFailed("the stream came in one piece")

    def _ask_openai(self, question: Seen, endpoint: str, *, stream: bool) -> None:
        started = time.monotonic()
        with openai.OpenAI(base_url=f"{endpoint}/v1", api_key="unused", max_retries=0) as stock:
            arguments = {
                "model": self.net.record.name,
                "messages": [{"role": "user", "content": question.prompt}],
                "max_tokens": self.options.max_tokens,
                "temperature": 0,
            }
            if stream:
                text, reason, extras = "", "", None
                for chunk in stock.chat.completions.create(**arguments, stream=True):  # type: ignore[call-overload]
                    text += chunk.choices[0].delta.content or ""
                    reason = chunk.choices[0].finish_reason or reason
                    extras = (chunk.model_extra or {}).get("trine") or extras
            else:
                completion = stock.chat.completions.create(**arguments)  # type: ignore[call-overload]
                text, reason = completion.choices[0].message.content, completion.choices[0].finish_reason
                extras = completion.model_extra["trine"]
        assert extras
        receipt = Receipt.from_json(extras["receipt"])
        if receipt.text_hash != text_hash(text):
            raise VerificationFailed("the receipt is not for the text that the client got")
        signature = bytes.fromhex(extras["signature"].removeprefix("0x"))
        question.answer = Answer(
            text, reason, receipt, signature, receipt.struct_hash(), endpoint, time.monotonic() - started
        )

    def _ask_hot(self, question: Seen, endpoint: str) -> None:
        with openai.OpenAI(base_url=f"{endpoint}/v1", api_key="unused", max_retries=0) as stock:
            try:
                stock.chat.completions.create(
                    model=self.net.record.name,
                    messages=[{"role": "user", "content": question.prompt}],
                    temperature=0.9,
                )
            except openai.BadRequestError as refused:
                question.refused = str(refused.body["message"] if isinstance(refused.body, dict) else refused)
                return
        raise VerificationFailed("the node served a request with temperature 0.9")

    def _certify(self, question: Seen, client: Client, answer: Answer, *, final: bool) -> None:
        try:
            question.certificate = self._wait_for(question, client, answer, final)
        except Exception as error:  # noqa: BLE001  (fails the demo, with the others' results shown)
            question.fault = f"{type(error).__name__}: {error}"
        if self._given_up.is_set():
            return
        with self._lock:
            if self._first is None and question.certificate:
                self._first = self.report.seconds
        stage = "final" if final else "settled"
        question.state = "" if final or question.fault else "settled, open to appeals"
        self.report.say(f"{question.node:<10} {stage:<16} {cut(question.prompt, 44)!r}: {question.verdict}")

    def _wait_for(self, question: Seen, client: Client, answer: Answer, final: bool) -> Certificate:
        """For as long as it takes: whether anything moves is `_see`'s to judge."""
        while True:
            try:
                return client.certify(answer, final=final, timeout=LOOK_SECONDS)
            except NotReady:
                if self._given_up.is_set():
                    raise
                question.state = _progress_of(client, answer)

    def _judge(self, question: Seen, chain: Chain) -> None:
        """Adds the votes from the chain, the statistics from the verifiers' stores, and the gas."""
        certificate = question.certificate
        if certificate is None:
            return
        names = {str(running.account.address): name for name, running in self.net.operators.items()}
        batch = chain.batch(certificate.batch_id)
        for index, seat in enumerate(chain.seats(batch)):
            name = names[seat.verifier]
            vote = (chain.vote(batch, index) or Vote(0, 0)).on(certificate.index)
            store = VerifierStore(f"sqlite:///{self.net.home}/{name}.sqlite")
            kept = store.vote(certificate.batch_id, batch.round)
            store.close()
            statistics = kept.verdicts[certificate.index] if kept else None
            question.votes.append(vote_line(name, vote, statistics))
        question.gas = batch_gas(chain, certificate.batch_id) // batch.leaf_count

    def _standings(self, chain: Chain, client: LocalAccount) -> dict[str, Standing]:
        accounts = {
            name: (running.account.address, running.member.role) for name, running in self.net.operators.items()
        }
        accounts["client"] = (client.address, Role.NODE)
        return {name: self._standing(chain, address, role) for name, (address, role) in accounts.items()}

    def _standing(self, chain: Chain, address: str, role: Role) -> Standing:
        reputation = chain.reputation(address, role, self.net.record.model_id)
        nodes = [running.account.address for running in self.net.operators.values()]
        return Standing(
            chain.token_balance(address) + chain.credit_of(address),
            chain.stake_of(address).active,
            sum(chain.account(address, node).balance for node in nodes),
            reputation.score_bps,
            reputation.accepted_micro / 1e6,
            reputation.rejected_micro / 1e6,
        )

    def _failures(self, seen: list[Seen], chain: Chain) -> list[str]:
        """Everything that is not as it must be. Empty: the demo succeeded."""
        failures = []
        for question in seen:
            wanted = "reject" if question.cheat else "refused" if question.via == HOT else "accept"
            if question.verdict != wanted:
                failures.append(f"{question.node}, {question.prompt!r}: {question.verdict}, expected {wanted}"
                                + (f" ({question.fault})" if question.fault else ""))  # fmt: skip
        for name, running in self.net.operators.items():
            if running.member.role is Role.NODE:
                failures += self._record_failures(name, [q for q in seen if q.node == name], chain)
        return failures

    def _record_failures(self, name: str, questions: list[Seen], chain: Chain) -> list[str]:
        """Compares a node's on-chain record with what it did; others may have asked it honest questions as well."""
        report = operator_report(chain, self.net.operators[name].account.address)
        standing = next(s for s in report.standings if s.role is Role.NODE)
        rejected = sum(1 for question in questions if question.cheat)
        accepted = sum(1 for question in questions if not question.cheat and question.via != HOT)
        failures = []
        told = standing.counts
        if told[0] < accepted or told[1] != rejected:
            failures.append(
                f"{name}: its record says {told[0]:g} accepted, {told[1]:g} rejected; expected {accepted}, {rejected}"
            )
        lost = sum(slash.taken_wei for slash in report.slashes)
        owed = rejected * chain.parameters().stake_per_leaf
        if lost != owed:
            failures.append(f"{name}: slashed {lost / TOKEN} tokens, expected {owed / TOKEN}")
        return failures


def _progress_of(client: Client, answer: Answer) -> str:
    batch_id = client.batch_of(answer)
    return "waits to be anchored" if batch_id is None else client.chain.batch(batch_id).progress
