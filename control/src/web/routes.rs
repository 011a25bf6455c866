//! Every route with what it needs, in one list: the router is made from it, the guard uses it, and the
//! security tests go through it, so that no route can be added and forgotten.

use std::sync::LazyLock;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::{App, api, console, metrics, operations, settings_call, v1};
use crate::auth::Need;

pub struct Route {
    pub method: Method,
    /// As the router takes it: a segment in braces stands for any, `{*path}` for all that follow.
    pub path: &'static str,
    pub need: Need,
    handler: MethodRouter<App>,
}

fn route<H: Handler<T, App>, T: 'static>(
    method: Method,
    path: &'static str,
    need: Need,
    handler: H,
) -> Route {
    let filter = MethodFilter::try_from(method.clone()).expect("only usual methods are listed");
    Route {
        method,
        path,
        need,
        handler: on(filter, handler),
    }
}

/// All routes. Those that need no token come first.
pub fn routes() -> Vec<Route> {
    let mut all = open();
    all.extend(base());
    all.extend(v1());
    all
}

fn open() -> Vec<Route> {
    use Need::Nothing;
    vec![
        route(Method::GET, "/", Nothing, console::page),
        route(Method::GET, "/login", Nothing, console::login),
        route(Method::GET, "/docs", Nothing, console::docs),
        route(
            Method::GET,
            "/static/{*path}",
            Nothing,
            console::static_file,
        ),
        route(Method::GET, "/livez", Nothing, metrics::livez),
        route(Method::GET, "/readyz", Nothing, metrics::readyz),
        route(Method::GET, SESSION, Nothing, v1::session::show),
        route(Method::POST, SESSION, Nothing, v1::session::sign_in),
        route(Method::DELETE, SESSION, Nothing, v1::session::sign_out),
    ]
}

const SESSION: &str = "/api/v1/session";

/// The paths that existing clients use, and related ones.
fn base() -> Vec<Route> {
    use Need::{Admin, Read, Register, Write};
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    vec![
        route(get.clone(), "/metrics", Read, metrics::metrics),
        route(get.clone(), "/api/backends", Read, api::backends),
        route(get.clone(), "/api/settings", Read, api::settings),
        route(get.clone(), "/api/proxy", Read, api::proxy),
        route(get.clone(), "/api/logs/audit", Read, api::audit_log),
        route(get, "/api/openapi.json", Read, v1::document),
        route(
            post.clone(),
            "/api/register",
            Register,
            operations::register,
        ),
        route(
            delete.clone(),
            "/api/register",
            Register,
            operations::unregister,
        ),
        route(post.clone(), WEIGHT, Write, operations::set_weight),
        route(post.clone(), ENABLED, Write, operations::set_enabled),
        route(post.clone(), DRAIN, Write, operations::set_drain),
        route(delete, OVERRIDE, Write, operations::clear_override),
        route(post.clone(), "/api/sync", Write, operations::sync),
        route(post.clone(), "/api/ping", Write, api::ping),
        route(
            post.clone(),
            "/api/settings",
            Admin,
            settings_call::change_settings,
        ),
        route(
            post,
            "/api/expiry/acknowledge",
            Admin,
            operations::acknowledge_expiry,
        ),
    ]
}

const WEIGHT: &str = "/api/backends/{ip}/{port}/weight";
const ENABLED: &str = "/api/backends/{ip}/{port}/enabled";
const DRAIN: &str = "/api/backends/{ip}/{port}/drain";
const OVERRIDE: &str = "/api/backends/{ip}/{port}/override";

const ROLL_BACK: &str = "/api/v1/edits/{number}/roll_back";
const OPEN_SESSION: &str = "/api/v1/sessions/{id}";
const STATIC: &str = "/api/v1/static/{id}";
const IN_POOL: &str = "/api/v1/pools/{pool}/backends/{id}";
const STATIC_IN_POOL: &str = "/api/v1/pools/{pool}/static/{id}";

fn v1() -> Vec<Route> {
    use Need::{Read, Write};
    vec![
        route(Method::GET, "/api/v1/status", Read, v1::view::status),
        route(Method::GET, "/api/v1/verdict", Read, v1::view::verdict),
        route(Method::GET, "/api/v1/backends", Read, v1::backends::list),
        route(Method::GET, "/api/v1/backends/{id}", Read, v1::detail::one),
        route(
            Method::PATCH,
            "/api/v1/backends/{id}",
            Write,
            v1::changes::patch,
        ),
        route(Method::GET, IN_POOL, Read, v1::detail::one),
        route(Method::PATCH, IN_POOL, Write, v1::changes::patch),
        route(Method::POST, "/api/v1/changes", Write, v1::changes::post),
        route(Method::GET, "/api/v1/edits", Read, v1::edits::list),
        route(Method::POST, ROLL_BACK, Write, v1::edits::roll_back),
        route(Method::GET, "/api/v1/config", Read, v1::backends::config),
        route(Method::GET, "/api/v1/events", Read, v1::events::events),
        route(Method::GET, "/api/v1/series", Read, v1::series::series),
        route(Method::GET, "/api/v1/audit", Read, v1::audit::lines),
        route(
            Method::GET,
            "/api/v1/sessions",
            Read,
            v1::open_sessions::list,
        ),
        route(Method::DELETE, OPEN_SESSION, Write, v1::open_sessions::end),
        route(Method::POST, "/api/v1/pings", Write, v1::pings::ping),
        route(Method::GET, "/api/v1/static", Read, v1::statics::list),
        route(Method::PUT, STATIC, Write, v1::statics::put),
        route(Method::DELETE, STATIC, Write, v1::statics::delete),
        route(Method::PUT, STATIC_IN_POOL, Write, v1::statics::put),
        route(Method::DELETE, STATIC_IN_POOL, Write, v1::statics::delete),
    ]
}

pub fn router() -> Router<App> {
    routes().into_iter().fold(Router::new(), |router, route| {
        router.route(route.path, route.handler)
    })
}

/// What a request needs. Unknown paths need a token too, so that strangers cannot find out which exist.
pub fn need(method: &Method, path: &str) -> Need {
    static NEEDS: LazyLock<Vec<(Method, &str, Need)>> = LazyLock::new(|| {
        let all = routes().into_iter();
        all.map(|route| (route.method, route.path, route.need))
            .collect()
    });
    let method = match method {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    let listed = NEEDS
        .iter()
        .find(|(listed, pattern, _)| listed == method && matches(pattern, path));
    match listed {
        Some((_, _, need)) => *need,
        None if method == Method::GET => Need::Read,
        None => Need::Write,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut steps = path.split('/');
    for wanted in pattern.split('/') {
        let Some(step) = steps.next() else {
            return false;
        };
        if wanted.starts_with("{*") {
            return true;
        }
        if !wanted.starts_with('{') && wanted != step {
            return false;
        }
    }
    steps.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_what_its_route_does_and_an_unknown_one_a_token() {
        let cases = [
            (Method::GET, "/", Need::Nothing),
            (Method::HEAD, "/static/vendor/a.js", Need::Nothing),
            (Method::GET, "/static", Need::Read),
            (Method::GET, "/api/v1/backends/[::1]:80", Need::Read),
            (Method::PATCH, "/api/v1/backends/[::1]:80", Need::Write),
            (Method::POST, "/api/register", Need::Register),
            (Method::POST, "/api/register/", Need::Write),
            (
                Method::POST,
                "/api/backends/10.0.0.1/80/weight",
                Need::Write,
            ),
            (Method::POST, "/api/settings", Need::Admin),
            (Method::GET, "/api/nowhere", Need::Read),
            (Method::DELETE, "/livez", Need::Write),
            (Method::OPTIONS, "/", Need::Write),
        ];
        for (method, path, right) in cases {
            assert_eq!(need(&method, path), right, "{method} {path}");
        }
    }
}
