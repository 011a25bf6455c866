//! `control_config.json` read again on SIGHUP: which keys take effect at once, and which need a restart. A file
//! with a fault changes nothing.

use std::sync::Arc;

use crate::renew::tokens::{begin_grace, tell_of_tokens};
use crate::settings::{Settings, SettingsFile};
use crate::web::App;

/// The changes of a file to the running settings.
#[derive(Debug)]
struct Renewal {
    /// The settings from now on.
    settings: Settings,
    in_effect: Vec<&'static str>,
    needs_restart: Vec<&'static str>,
}

impl Renewal {
    fn of(running: &Settings, file: &Settings) -> Renewal {
        // Taken apart in full, so that no setting to come is forgotten here.
        let Settings {
            listen,
            proxy_config_path,
            proxy_pid_path,
            k8s_endpoints_path,
            static_backends_path,
            runtime_backends_path,
            settings_runtime_path: _,
            settings_accepted_path: _,
            published_sources_path: _,
            edits_path: _,
            audit_log_path,
            control_pid_path: _,
            proxy,
            auto_sync_interval_s,
            expiry,
            tokens,
            tokens_path: _,
            token_uses_path: _,
            allowed_hosts,
            open_metrics,
            admission,
            tls,
            audit_max_bytes,
            audit_files,
            history_max_bytes,
            proxy_process_names,
        } = file;
        let (old, new) = (&running.proxy, proxy);
        let needs_restart = [
            ("host", listen.ip() != running.listen.ip()),
            ("port", listen.port() != running.listen.port()),
            (
                "proxy_config_path",
                *proxy_config_path != running.proxy_config_path,
            ),
            ("proxy_pid_path", *proxy_pid_path != running.proxy_pid_path),
            (
                "k8s_endpoints_path",
                *k8s_endpoints_path != running.k8s_endpoints_path,
            ),
            (
                "static_backends_path",
                *static_backends_path != running.static_backends_path,
            ),
            (
                "runtime_backends_path",
                *runtime_backends_path != running.runtime_backends_path,
            ),
            ("audit_log_path", *audit_log_path != running.audit_log_path),
            (
                "audit_max_bytes",
                *audit_max_bytes != running.audit_max_bytes,
            ),
            ("audit_files", *audit_files != running.audit_files),
            ("tls", *tls != running.tls),
        ];
        let in_effect = [
            ("default_listen_host", new.host != old.host),
            ("default_listen_port", new.port != old.port),
            ("default_algorithm", new.algorithm != old.algorithm),
            ("proxy", !new.has_same_optional(old)),
            (
                "auto_sync_interval_sec",
                *auto_sync_interval_s != running.auto_sync_interval_s,
            ),
            ("runtime_ttl_sec", expiry.ttl_ms != running.expiry.ttl_ms),
            ("warmup_sec", expiry.warmup_ms != running.expiry.warmup_ms),
            ("expiry_freeze", expiry.freeze != running.expiry.freeze),
            ("tokens", *tokens != running.tokens),
            ("allowed_hosts", *allowed_hosts != running.allowed_hosts),
            ("open_metrics", *open_metrics != running.open_metrics),
            ("registration", *admission != running.admission),
            (
                "history_max_bytes",
                *history_max_bytes != running.history_max_bytes,
            ),
            (
                "proxy_process_names",
                *proxy_process_names != running.proxy_process_names,
            ),
        ];
        fn changed(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
            let changed = keys.iter().filter(|(_, is_changed)| *is_changed);
            changed.map(|(key, _)| *key).collect()
        }
        let settings = Settings {
            proxy: proxy.clone(),
            auto_sync_interval_s: *auto_sync_interval_s,
            expiry: *expiry,
            tokens: tokens.clone(),
            allowed_hosts: allowed_hosts.clone(),
            open_metrics: *open_metrics,
            admission: admission.clone(),
            proxy_process_names: proxy_process_names.clone(),
            ..running.clone()
        };
        Renewal {
            settings,
            in_effect: changed(&in_effect),
            needs_restart: changed(&needs_restart),
        }
    }
}

/// Reads the file and applies its settings.
pub async fn read_again(app: &App, file: &SettingsFile) {
    let path = file.path();
    let path = path.display();
    let result = match take_over(app, file).await {
        Ok(renewal) => {
            let keys = renewal.needs_restart.join(", ");
            let note = (!keys.is_empty())
                .then(|| format!("{path}: {keys} changed: restart control to apply this"));
            app.shared.set_config_note(note.clone());
            match renewal.in_effect.is_empty() {
                true => tracing::info!("{path} reloaded: nothing has changed"),
                false => {
                    let keys = renewal.in_effect.join(", ");
                    tracing::info!("{path} reloaded: {keys} in effect now");
                }
            }
            if let Some(note) = note {
                tracing::warn!("{note}");
            }
            "ok".to_owned()
        }
        Err(why) => {
            let note = format!("{why}; the previous settings stay in effect");
            app.shared.set_config_note(Some(note.clone()));
            tracing::error!("{note}");
            why
        }
    };
    app.shared
        .audit_own("settings", "read_config", "control_config.json", &result);
}

async fn take_over(app: &App, file: &SettingsFile) -> Result<Renewal, String> {
    let from = file.clone();
    let read = tokio::task::spawn_blocking(move || from.read());
    let found = read.await.expect("reading settings does not panic");
    let found = found.map_err(|error| error.to_string())?;
    let renewal = Renewal::of(&app.shared.live(), &found);
    let settings = Arc::new(renewal.settings.clone());
    let configured = app.keeper.configure(settings.clone()).await;
    configured.map_err(|faults| {
        let path = file.path();
        let path = path.display();
        format!(
            "{path}: together with the settings made by API, the proxy would refuse it: {faults}"
        )
    })?;
    app.hosts.allow(&settings.allowed_hosts);
    let changes = app.access.configure(settings.tokens.clone());
    tell_of_tokens(app, changes);
    begin_grace(app);
    app.shared.set_live(settings);
    Ok(renewal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Root;
    use serde_json::{Value, json};

    fn settings(value: Value) -> Settings {
        let bytes = value.to_string();
        Settings::read(Some(bytes.as_bytes()), &Root("r".into())).expect("good")
    }

    #[test]
    fn each_key_takes_effect_or_is_named_for_a_restart() {
        let running = settings(json!({}));
        let in_effect = json!({
            "default_listen_host": "127.0.0.1", "default_listen_port": 10081,
            "default_algorithm": "random", "proxy": {"connect_attempts": 2},
            "auto_sync_interval_sec": 1, "runtime_ttl_sec": 60, "warmup_sec": 3,
            "expiry_freeze": false, "tokens": {"write": "long-enough"},
            "allowed_hosts": ["a.example"], "registration": {"max_backends": 9},
            "open_metrics": true, "proxy_process_names": ["other"],
        });
        let needs_restart = json!({
            "host": "127.0.0.1", "port": 8081, "proxy_config_path": "a", "proxy_pid_path": "b",
            "k8s_endpoints_path": "c", "static_backends_path": "f", "runtime_backends_path": "d", "audit_log_path": "e",
            "audit_max_bytes": 10000, "audit_files": 2,
            "tls": {"certificate": "c.pem", "key": "k.pem"},
        });
        for (file, is_in_effect) in [(in_effect, true), (needs_restart, false)] {
            for (key, value) in file.as_object().expect("an object") {
                let file = settings(json!({ key: value }));
                let renewal = Renewal::of(&running, &file);
                let (expected, none) = match is_in_effect {
                    true => (renewal.in_effect, renewal.needs_restart),
                    false => (renewal.needs_restart, renewal.in_effect),
                };
                assert_eq!((expected, none), (vec![key.as_str()], vec![]));
                // The same file once more changes no more; back again, what took effect changes back.
                let again = Renewal::of(&renewal.settings, &file);
                assert!(again.in_effect.is_empty(), "{key}");
                assert_eq!(again.needs_restart.is_empty(), is_in_effect, "{key}");
                let back = Renewal::of(&renewal.settings, &running);
                assert_eq!(back.in_effect.is_empty(), !is_in_effect, "{key}");
                assert!(back.needs_restart.is_empty(), "{key}");
            }
        }
    }
}
