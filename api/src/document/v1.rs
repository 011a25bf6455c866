//! The operations of `/api/v1`.

use contract::sessions::{LISTED, MAX_LISTED, SessionList};
use serde_json::{Value, json};

use super::operation::{Need, Operation, call};
use crate::v1::{
    AuditLines, Changed, Changes, Config, Detail, Edits, Page, PatchRequest, PingLine, PingRequest,
    RollBackRequest, RolledBack, Series, Session, SessionEnded, SignIn, SignedOut, StaticChanged,
    StaticList, StaticRequest, Status, Verdict,
};

pub fn operations() -> Vec<Operation> {
    let mut all = Vec::from(session());
    all.extend(state());
    all.extend(backend(
        "/api/v1/backends/{id}",
        [
            "One backend: its row, the values of each source, its last states and edits",
            "Edit a backend's override",
        ],
    ));
    all.extend(
        backend(
            "/api/v1/pools/{pool}/backends/{id}",
            [
                "One backend: its row, the values of each source, its last states and edits, in a pool",
                "Edit a backend's override, in a pool",
            ],
        )
        .map(in_pool),
    );
    all.extend(edits());
    all.extend(figures());
    all.extend(sessions());
    all.push(call::<StaticList>(
        "GET",
        "/api/v1/static",
        Need::Read,
        "The static list: the operators' backends, which need no heartbeat",
        "The list",
    ));
    all.extend(statics(
        "/api/v1/static/{id}",
        [
            "Add a backend to the static list, or change its entry",
            "Remove a backend from the static list",
        ],
    ));
    all.extend(
        statics(
            "/api/v1/pools/{pool}/static/{id}",
            [
                "Add a backend to the static list, or change its entry, in a pool",
                "Remove a backend from the static list, in a pool",
            ],
        )
        .map(in_pool),
    );
    all
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn from_zero() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn flag() -> Value {
    json!({ "type": "boolean", "default": false })
}

fn with_id(operation: Operation) -> Operation {
    operation.path("id", "ip:port, an IPv6 address in brackets", text())
}

/// The pool comes before the backend.
fn in_pool(mut operation: Operation) -> Operation {
    operation = operation.path("pool", "The name of a pool", text());
    operation.parameters.rotate_right(1);
    operation
}

/// An edit of overrides.
fn edit(operation: Operation, is_required: bool) -> Operation {
    operation
        .header(
            "If-Match",
            Some(is_required),
            "The ETag of the state that was read, or *; a stale one is 412, a missing one 428",
        )
        .refuses(&[412, 428])
        .stores()
        .tagged()
}

fn dry_run(operation: Operation) -> Operation {
    let about = "Only show the differences; needs no If-Match";
    edit(operation.query("dry_run", about, flag()), false)
}

fn session() -> [Operation; 3] {
    const SESSION: &str = "/api/v1/session";
    let after = "The caller, as it is after the call";
    [
        call::<Session>(
            "GET",
            SESSION,
            Need::Nothing,
            "The caller's token and scope",
            after,
        ),
        call::<Session>(
            "POST",
            SESSION,
            Need::Nothing,
            "Sign in: start a session for this browser with a token",
            after,
        )
        .takes::<SignIn>()
        .refuses_as(401, "The token is wrong or has expired")
        .refuses_as(409, "No tokens are configured")
        .refuses(&[429])
        .sets_cookie(),
        call::<SignedOut>(
            "DELETE",
            SESSION,
            Need::Nothing,
            "Sign out: end the session in every tab",
            "Signed out",
        )
        .sets_cookie(),
    ]
}

fn state() -> [Operation; 4] {
    let page = json!({ "type": "integer", "minimum": 1, "maximum": 10000, "default": 1000 });
    let rows = "With patch=true: at most 500 backends as ip:port, separated by commas. Their figures come with each \
                delta, those of the others every five deltas. State, weight and everything else that decides where \
                sessions go come at once for all backends";
    [
        call::<Status>(
            "GET",
            "/api/v1/status",
            Need::Read,
            "The proxy's status, and the configuration that it should run",
            "The current state",
        )
        .tagged(),
        call::<Verdict>(
            "GET",
            "/api/v1/verdict",
            Need::Read,
            "Whether traffic flows",
            "As of the last look, at most half a second ago",
        ),
        call::<Page>(
            "GET",
            "/api/v1/backends",
            Need::Read,
            "All backends, ordered by address",
            "A page",
        )
        .query("limit", "Backends on a page", page)
        .query("cursor", "`next` of the previous page", text())
        .query("pool", "Only backends of this pool", text())
        .refuses(&[400])
        .tagged(),
        call::<EventText>(
            "GET",
            "/api/v1/events",
            Need::Read,
            "Server-sent events: one `snapshot`, then a `delta` each second",
            "The stream",
        )
        .about(
            "For each backend, a delta holds only the fields that changed. Reconnect with Last-Event-ID to get the \
             missed events; after a long absence the stream begins with a snapshot. With patch=true, status and each \
             backend are patches: an object holds only the members that changed, and a list of one holds a value \
             that replaces the earlier one. The stream is compressed for clients that accept gzip.",
        )
        .answers_as("text/event-stream")
        .header("Last-Event-ID", None, "")
        .query("patch", "true: deltas are patches", json!({ "type": "boolean" }))
        .query("rows", rows, text())
        .refuses(&[503]),
    ]
}

/// event: snapshot | delta; data: JSON with etag, status, backends, and in a delta at_ms and gone
#[derive(schemars::JsonSchema)]
#[schemars(inline, transparent)]
struct EventText(#[allow(dead_code, reason = "it is only described")] String);

fn backend(
    path: &'static str,
    [shown, edited]: [&'static str; 2],
) -> impl Iterator<Item = Operation> {
    let shown = call::<Detail>("GET", path, Need::Read, shown, "The backend");
    let edited = call::<Changed>("PATCH", path, Need::Write, edited, PUBLISHED);
    let edited = edited
        .about("A merge patch: a value sets, null clears the override of this value, an absent key changes nothing.")
        .takes::<PatchRequest>();
    let edited = edit(with_id(edited), true).refuses(&[404]);
    [with_id(shown).refuses(&[404]).tagged(), edited].into_iter()
}

const PUBLISHED: &str = "Stored and published, and the proxy was signalled; `sync.reload.applied` says whether the proxy \
    runs it";

fn edits() -> [Operation; 4] {
    let made = "The changes made, or with dry_run the changes to be made";
    [
        dry_run(
            call::<Changed>(
                "POST",
                "/api/v1/changes",
                Need::Write,
                "Edit several backends as one change: all or none",
                made,
            )
            .takes::<Changes>(),
        ),
        call::<Edits>(
            "GET",
            "/api/v1/edits",
            Need::Read,
            "The last 50 edits of overrides and settings, the newest first",
            "The edits, with what each changed",
        )
        .tagged(),
        dry_run(
            call::<RolledBack>(
                "POST",
                "/api/v1/edits/{number}/roll_back",
                Need::Write,
                "Restore settings and overrides as they were before an edit",
                made,
            )
            .about(
                "Undoes this edit and all later ones, as a new edit. If the proxy refuses the settings, nothing is \
                 changed. Changing settings needs the scope admin. Overrides of backends that are no longer known \
                 are left out and named in gone.",
            )
            .takes::<RollBackRequest>()
            .path("number", "The number of the edit in GET /api/v1/edits", text())
            .refuses_as(404, "No such edit; the last 50 are kept")
            .refuses_as(409, "The proxy refused the settings, and nothing was changed"),
        ),
        call::<Config>(
            "GET",
            "/api/v1/config",
            Need::Read,
            "The settings in force and the last published file",
            "The configuration",
        )
        .refuses_as(503, "The published file could not be read")
        .tagged(),
    ]
}

fn sessions() -> [Operation; 2] {
    let order = json!({ "type": "string", "enum": ["age", "idle", "bytes"], "default": "age" });
    let limit =
        json!({ "type": "integer", "minimum": 0, "maximum": MAX_LISTED, "default": LISTED });
    let protocol = json!({ "type": "string", "enum": ["tcp", "udp"] });
    [
        call::<SessionList>(
            "GET",
            "/api/v1/sessions",
            Need::Read,
            "Open sessions and flows, as the proxy has them now",
            "The first ones, how many there are, and the clients that have the most",
        )
        .query("pool", "Only those of this pool", text())
        .query("listener", "Only those of this listener", text())
        .query("backend", "Only those of this backend, as ip:port", text())
        .query(
            "client",
            "Only those of this address or network, such as 10.0.0.0/8",
            text(),
        )
        .query(
            "protocol",
            "Only sessions (tcp) or only flows (udp)",
            protocol,
        )
        .query(
            "sort",
            "Which come first: the oldest, the longest silent, or those with the most bytes",
            order,
        )
        .query("limit", "Rows", limit)
        .refuses(&[400])
        .refuses_as(503, "The proxy does not answer"),
        call::<SessionEnded>(
            "DELETE",
            "/api/v1/sessions/{id}",
            Need::Write,
            "End one session or flow",
            "It has ended",
        )
        .path("id", "`id` of a session or flow in the list", text())
        .refuses_as(404, "No such session or flow is open")
        .refuses_as(503, "The proxy does not answer"),
    ]
}

fn figures() -> [Operation; 3] {
    let step = json!({ "type": "integer", "enum": [5000, 60000] });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 5000, "default": 200 });
    [
        call::<Series>(
            "GET",
            "/api/v1/series",
            Need::Read,
            "Past figures: every 5 s for the last hour, every minute for the last day",
            "Figures, oldest first",
        )
        .query(
            "from_ms",
            "Start of the time range, in unix milliseconds; absent: an hour before to_ms",
            from_zero(),
        )
        .query(
            "to_ms",
            "End of the time range, in unix milliseconds; absent: now",
            from_zero(),
        )
        .query(
            "step_ms",
            "The time between two figures; absent: 5000 for an hour at most, 60000 for more",
            step,
        )
        .query(
            "backend",
            "ip:port of a backend: its figures, every minute for the last hour",
            text(),
        )
        .refuses(&[400])
        .refuses_as(404, "No figures of this backend"),
        call::<AuditLines>(
            "GET",
            "/api/v1/audit",
            Need::Read,
            "Lines of the audit log by number",
            "Lines",
        )
        .query(
            "after",
            "Lines after this number, oldest first; without it, the newest lines",
            from_zero(),
        )
        .query("limit", "Maximum number of lines", limit)
        .query(
            "follow",
            "With after: wait up to 20 s for the next line",
            flag(),
        )
        .refuses(&[400])
        .refuses_as(503, "The audit log could not be read"),
        call::<PingLine>(
            "POST",
            "/api/v1/pings",
            Need::Write,
            "Ping a backend's address; each result when it arrives",
            "One JSON object a line",
        )
        .takes::<PingRequest>()
        .answers_as("application/x-ndjson"),
    ]
}

fn statics(
    path: &'static str,
    [put, delete]: [&'static str; 2],
) -> impl Iterator<Item = Operation> {
    let stored = "Stored; sync says whether it is in force";
    let put = call::<StaticChanged>("PUT", path, Need::Write, put, stored);
    let delete = call::<StaticChanged>("DELETE", path, Need::Write, delete, stored);
    [
        with_id(put).takes::<StaticRequest>().stores(),
        with_id(delete).refuses(&[400, 404, 408, 413]).stores(),
    ]
    .into_iter()
}
