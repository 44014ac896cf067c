-- Times are nanoseconds since 1970. What is NULL is not known, or not yet.

-- Which crihook has brought the file to which version, for one that knows no version so late.
CREATE TABLE migrations (
    version INTEGER NOT NULL PRIMARY KEY,
    crihook TEXT    NOT NULL,
    at      INTEGER NOT NULL
);

CREATE TABLE runs (
    id           TEXT    NOT NULL PRIMARY KEY,
    owner        TEXT    NOT NULL, -- the process that goes on with it
    policy       TEXT    NOT NULL,
    hook         TEXT    NOT NULL,
    point        TEXT    NOT NULL,
    handler      TEXT    NOT NULL,
    mode         TEXT    NOT NULL,
    namespace    TEXT    NOT NULL,
    pod          TEXT    NOT NULL,
    container    TEXT,
    container_id TEXT,
    sandbox_id   TEXT,
    subject      TEXT    NOT NULL,
    once         INTEGER NOT NULL,
    replay_of    TEXT,
    created_at   INTEGER NOT NULL,
    intended     INTEGER NOT NULL,
    started      INTEGER NOT NULL, -- the number of the last attempt
    started_at   INTEGER,
    ended_at     INTEGER,
    outcome      TEXT,
    reason       TEXT
);
CREATE INDEX runs_by_time ON runs (created_at);
CREATE INDEX runs_by_pod ON runs (pod, created_at);
CREATE INDEX runs_by_namespace ON runs (namespace, created_at);
CREATE INDEX runs_unended ON runs (owner) WHERE ended_at IS NULL;

-- What it takes to deliver a run again, as JSON. Apart from the runs, so that these are read quickly.
CREATE TABLE events (
    run   TEXT NOT NULL PRIMARY KEY,
    event TEXT NOT NULL
);

-- An attempt without a result is under way.
CREATE TABLE attempts (
    run         TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    duration    INTEGER,
    result      TEXT,
    message     TEXT,
    exit_code   INTEGER,
    http_status INTEGER,
    stdout      TEXT,
    stderr      TEXT,
    body        TEXT,
    PRIMARY KEY (run, number)
);

-- Hooks that have succeeded for a container or a sandbox that was not forgotten.
CREATE TABLE done (
    subject TEXT    NOT NULL,
    point   TEXT    NOT NULL,
    policy  TEXT    NOT NULL,
    hook    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (subject, point, policy, hook)
) WITHOUT ROWID;
CREATE INDEX done_by_time ON done (at);
