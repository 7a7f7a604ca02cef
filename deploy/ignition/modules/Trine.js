// Deploys and wires all of Trine's contracts. Defaults suit a development network; pass others with `--parameters`.
import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

const tokens = (n) => (BigInt(Math.round(n * 1e6)) * 10n ** 12n).toString();

export default buildModule("Trine", (m) => {
  const deployer = m.getAccount(0);

  const token = m.contract("TrineToken", [deployer, m.getParameter("supplyWei", tokens(1e9))]);
  const staking = m.contract("Staking", [token, m.getParameter("unbondingSeconds", 86_400), deployer]);
  const registry = m.contract("ModelRegistry", [deployer]);
  const reputation = m.contract("Reputation", [deployer]);
  const payments = m.contract("Payments", [token, m.getParameter("noticeSeconds", 86_400), deployer]);
  const committees = m.contract("Committees", [staking, deployer]);
  const calibration = m.contract("Calibration", [
    staking,
    registry,
    {
      minNodeStakeWei: m.getParameter("minNodeStakeWei", tokens(100)),
      minVerifierStakeWei: m.getParameter("minVerifierStakeWei", tokens(200)),
      validitySeconds: m.getParameter("validitySeconds", 30 * 86_400),
      answerSeconds: m.getParameter("answerSeconds", 600),
      promptsPerChallenge: m.getParameter("promptsPerChallenge", 2),
      seedDelayBlocks: m.getParameter("seedDelayBlocks", 2),
    },
    deployer,
  ]);
  const batches = m.contract("Batches", [
    { token, staking, registry, calibration, committees, reputation, payments },
    {
      stakePerLeafWei: m.getParameter("stakePerLeafWei", tokens(5)),
      refundPerLeafWei: m.getParameter("refundPerLeafWei", tokens(2)),
      verifierFeePerLeafWei: m.getParameter("verifierFeePerLeafWei", tokens(0.03)),
      seatStakeWei: m.getParameter("seatStakeWei", tokens(60)),
      wrongVotePenaltyWei: m.getParameter("wrongVotePenaltyWei", tokens(20)),
      noRevealPenaltyWei: m.getParameter("noRevealPenaltyWei", tokens(25)),
      noCommitPenaltyWei: m.getParameter("noCommitPenaltyWei", tokens(10)),
      drawDelayBlocks: m.getParameter("drawDelayBlocks", 2),
      commitSeconds: m.getParameter("commitSeconds", 120),
      revealSeconds: m.getParameter("revealSeconds", 60),
      maxRounds: m.getParameter("maxRounds", 3),
    },
  ]);

  m.call(staking, "wire", [batches]);
  m.call(reputation, "wire", [batches]);
  m.call(payments, "wire", [batches]);
  m.call(committees, "wire", [calibration, batches]);
  m.call(calibration, "wire", [committees, batches]);

  return { token, staking, registry, reputation, payments, committees, calibration, batches };
});
