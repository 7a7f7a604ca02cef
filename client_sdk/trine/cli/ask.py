"""`trine ask`: one question, its answer and, on request, its certificate."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    AsJson,
    Choices,
    DeploymentFile,
    Keystore,
    MinP,
    PasswordFile,
    Regex,
    RpcUrl,
    Schema,
    Seed,
    Temperature,
    TopK,
    TopP,
    load_account,
    shape,
    token_wei,
)
from trine.cli.output import fail_cleanly, note, print_json, tokens
from trine.errors import InvalidInput, PaymentRequired, TrineError, VerificationFailed


@fail_cleanly
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[str | None, typer.Option(help="Name of a registered model.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 128,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    seed: Seed = None,
    schema: Schema = None,
    choice: Choices = None,
    regex: Regex = None,
    node: Annotated[str | None, typer.Option(help="Endpoint of the node to ask; default: the best known.")] = None,
    deposit: Annotated[
        str, typer.Option(help="Tokens to deposit with the node when the deposit does not cover the answer.")
    ] = "0",
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Seal question and answer: nobody between you and the node reads them.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the verifiers' certificate.")] = True,
    final: Annotated[bool, typer.Option(help="Wait until no appeal can change it any more.")] = False,
    save: Annotated[Path | None, typer.Option(help="Where to write the certificate.")] = None,
    save_receipt: Annotated[
        Path | None, typer.Option(help="Where to write the node's promise; `trine claim` holds it to that.")
    ] = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Asks a node, streams the answer, checks the receipt and waits for the certificate."""
    if not question.strip():
        raise InvalidInput("the question is empty, and its answer would be paid for")
    if seed is not None and not temperature:
        raise InvalidInput("--seed draws nothing without --temperature: the answer would be the greedy one")
    if save and not (wait or final):
        raise InvalidInput("--save writes the certificate, which --no-wait does not wait for: leave one of them out")
    wanted = shape(schema, choice, regex)
    account = load_account(keystore, password_file)
    from trine import Client, Deployment

    with Client(
        rpc_url=rpc_url,
        deployment=Deployment.load(deployment),
        account=account,
        node=node,
        deposit_wei=token_wei(deposit),
        sealed=sealed,
    ) as client:
        stream = client.stream(
            question,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            seed=seed,
            **wanted,
        )
        begun = False
        try:
            for text in stream:
                begun = True
                if not json:
                    sys.stdout.write(text)
                    sys.stdout.flush()
        except TrineError as error:
            if begun and not json:
                sys.stdout.write("\n")
            if isinstance(error, PaymentRequired) and error.code == "deposit_too_low" and not token_wei(deposit):
                hint = "; `--deposit 10` lets this command deposit 10 tokens with it when that is needed"
                raise error.hinted(hint) from None
            raise
        answer = stream.answer
        if answer is None:
            raise VerificationFailed("the stream ended without a receipt")
        if save_receipt:
            save_receipt.write_text(json_module.dumps(answer.held(), indent=2) + "\n")
        if not json:
            sys.stdout.write("\n")
            for each in answer.tried:
                may = f"; it may still ask {tokens(each.may_cost_wei)} for it" if each.may_cost_wei else ""
                note(f"{each.node} was asked first and did not answer: {each.reason:.200}{may}")
            note(
                f"{answer.receipt.node}, fee {tokens(answer.receipt.fee_wei)}, {answer.tokens_per_second:.1f} tokens/s"
            )
            if answer.sampling:
                note(f"drawn at temperature {answer.sampling.temperature:g} with seed {answer.sampling.seed}")
            if wait or final:
                note("three verifiers check it now…" + (" and then anybody may appeal for a while" if final else ""))
        certificate = client.certify(answer, final=final) if wait or final else None
    if certificate and save:
        save.write_text(json_module.dumps(certificate.to_json(), indent=2) + "\n")
    if json:
        print_json(
            {
                "text": answer.text,
                "receipt": answer.receipt.to_json(),
                "salt": "0x" + answer.salt.hex(),
                "sampling": answer.sampling.document() if answer.sampling else None,
                "tried": [each.to_json() for each in answer.tried],
                "certificate": certificate.to_json() if certificate else None,
                "result": certificate.result if certificate else None,
            }
        )
    elif certificate:
        note(f"verified: {certificate.result} (batch 0x{certificate.batch_id.hex()}, leaf {certificate.index})")
    if certificate and certificate.result != "accept":
        raise VerificationFailed(f"the verifiers' result is {certificate.result}: do not use this answer")
