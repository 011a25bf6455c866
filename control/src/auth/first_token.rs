//! What the first token changes, for the operator who creates it: from then on all callers need a token.

use std::fmt::Write as _;

use contract::Root;
use serde_json::Value;

use crate::bounded_read::read_file;
use crate::clock::rfc3339;
use crate::settings::SettingsFile;
use crate::sources::runtime;

/// How many registrations are named; the rest are counted.
const NAMED: usize = 10;

/// In lines, each with its end. `grace_until` is in Unix seconds.
pub fn consequences(root: &Root, grace_until: Option<u64>) -> String {
    let has_open_metrics = SettingsFile::at(root)
        .read()
        .is_ok_and(|settings| settings.open_metrics);
    let also_read = match has_open_metrics {
        true => "",
        false => ", /metrics and the details of /readyz",
    };
    let mut text = format!(
        "This is the first token. Until now, control served all clients on this machine and no others.\n\
         From now on, it serves any client that sends a token. Without one it refuses (401):\n  \
         - the console, all calls that read{also_read}\n  \
         - edits, settings, sync, pings\n  \
         - new registrations (POST /api/register) and deregistrations\n\
         /livez and the verdict of /readyz need no token.\n"
    );
    let registered = registered(root);
    let count = registered.len();
    if count == 0 {
        return text;
    }
    let mut names = registered[..count.min(NAMED)].join(", ");
    if count > NAMED {
        write!(names, " and {} more", count - NAMED).expect("writing to a String does not fail");
    }
    let what = match grace_until {
        Some(until) => format!(
            "can be refreshed from this machine without a token until {}",
            rfc3339(until)
        ),
        None => "expire unless their agents get a token in time (--grace 0)".to_owned(),
    };
    writeln!(
        text,
        "The existing registrations ({count}) {what}: {names}.\n\
         Give their agents a token before then: control_server token create --scope register"
    )
    .expect("writing to a String does not fail");
    text
}

/// The registrations in the registry's file, which has each one before it is answered.
fn registered(root: &Root) -> Vec<String> {
    let path = SettingsFile::at(root).read().map_or_else(
        |_| root.backends_runtime(),
        |settings| settings.runtime_backends_path,
    );
    let bytes = read_file(&path, runtime::MAX_FILE_BYTES).ok().flatten();
    let file = bytes.and_then(|bytes| runtime::read(&bytes).ok());
    let entries = file.map(|file| file.entries).unwrap_or_default();
    let is_registered =
        |entry: &Value| entry["last_seen"].is_u64() && entry.get("expired").is_none();
    let registered = entries.iter().filter(|(_, entry)| is_registered(entry));
    registered.map(|(addr, _)| addr.to_string()).collect()
}
