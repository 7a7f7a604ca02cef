-- What version 3 of an operator's store made on SQLite; on PostgreSQL answers.sequence was SERIAL.

CREATE TABLE balances (
    client VARCHAR(42) NOT NULL,
    owed_wei VARCHAR(78) NOT NULL,
    earned_wei VARCHAR(78) NOT NULL,
    collected_wei VARCHAR(78) NOT NULL,
    is_due BOOLEAN NOT NULL,
    PRIMARY KEY (client)
);
CREATE INDEX ix_balances_is_due ON balances (is_due);
CREATE TABLE batches (
    batch_id VARCHAR(64) NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    root VARCHAR(64) NOT NULL,
    canary VARCHAR(64) NOT NULL,
    leaves TEXT NOT NULL,
    challenge_id VARCHAR(64),
    state VARCHAR(16) NOT NULL,
    accepted VARCHAR(64) NOT NULL,
    rejected VARCHAR(64) NOT NULL,
    PRIMARY KEY (batch_id)
);
CREATE INDEX ix_batches_state ON batches (state);
CREATE TABLE owner (
    owner VARCHAR(160) NOT NULL,
    PRIMARY KEY (owner)
);
CREATE TABLE schema (
    name VARCHAR(32) NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE vouchers (
    payer VARCHAR(42) NOT NULL,
    cumulative_wei VARCHAR(78) NOT NULL,
    signature VARCHAR(130) NOT NULL,
    PRIMARY KEY (payer)
);
CREATE TABLE answers (
    sequence INTEGER NOT NULL,
    digest VARCHAR(64) NOT NULL,
    request_hash VARCHAR(64),
    model_id VARCHAR(64) NOT NULL,
    client VARCHAR(42) NOT NULL,
    fee_wei VARCHAR(78) NOT NULL,
    evidence TEXT NOT NULL,
    batch_id VARCHAR(64),
    leaf INTEGER,
    result VARCHAR(16),
    PRIMARY KEY (sequence),
    UNIQUE (digest),
    UNIQUE (request_hash),
    FOREIGN KEY(batch_id) REFERENCES batches (batch_id)
);
CREATE INDEX answers_of_batch ON answers (batch_id, leaf);
CREATE INDEX waiting ON answers (batch_id, sequence);

-- and of a verifier's

CREATE TABLE appeal_duties (
    batch_id VARCHAR(64) NOT NULL,
    leaf INTEGER NOT NULL,
    level INTEGER NOT NULL,
    round INTEGER NOT NULL,
    PRIMARY KEY (batch_id, leaf, level, round)
);
CREATE TABLE appeal_votes (
    batch_id VARCHAR(64) NOT NULL,
    leaf INTEGER NOT NULL,
    level INTEGER NOT NULL,
    round INTEGER NOT NULL,
    vote INTEGER NOT NULL,
    salt VARCHAR(64) NOT NULL,
    verdict TEXT NOT NULL,
    PRIMARY KEY (batch_id, leaf, level, round)
);
CREATE TABLE cursors (
    name VARCHAR(32) NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE duties (
    batch_id VARCHAR(64) NOT NULL,
    round INTEGER NOT NULL,
    PRIMARY KEY (batch_id, round)
);
CREATE TABLE votes (
    batch_id VARCHAR(64) NOT NULL,
    round INTEGER NOT NULL,
    accepts VARCHAR(64) NOT NULL,
    rejects VARCHAR(64) NOT NULL,
    distance_ppm INTEGER NOT NULL,
    salt VARCHAR(64) NOT NULL,
    verdicts TEXT NOT NULL,
    PRIMARY KEY (batch_id, round)
);
