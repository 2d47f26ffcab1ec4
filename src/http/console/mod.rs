//! The web console: chat and inbox, for people with a browser.
//!
//! Pages are made on the server from a thread's fold and its events, and work without a script: every
//! action is a form, every answer to one leads back to a page that says what was done or why not. The
//! script adds three things: pages follow what happens (`live`), keys, and times that stay true.
//!
//! It owns no decision: a vote carries the revision and the digest of what the page showed, and the core
//! refuses what is stale. It keeps nothing either, so two browsers, or a restart in between, change nothing.
//!
//! | file | owns |
//! |---|---|
//! | `door` | who comes in, forms that are ours, headers |
//! | `pages` | the frame of every page, signing in and out, errors, the style and the script |
//! | `chat` | conversations: list, start, messages, answers, marks, pause and stop |
//! | `inbox` | approvals: lists, one in full, decisions |
//! | `view` | what pages show, as data |
//! | `form` | forms for arguments |
//! | `live` | "something changed", as server-sent events |

mod chat;
mod door;
mod form;
mod inbox;
mod live;
mod pages;
mod view;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::Service;

/// The routes of the console, behind their door.
pub fn routes(service: &Service) -> Router<Service> {
    let pages = Router::new()
        .route("/", get(chat::list))
        .route("/chat", post(chat::start))
        .route("/chat/{thread}", get(chat::show))
        .route("/chat/{thread}/live", get(live::thread))
        .route("/chat/{thread}/say", post(chat::say))
        .route("/chat/{thread}/answer", post(chat::answer))
        .route("/chat/{thread}/mark", post(chat::mark))
        .route("/chat/{thread}/{control}", post(chat::control))
        .route("/inbox", get(inbox::list))
        .route("/inbox/live", get(live::inbox))
        .route("/inbox/{approval}", get(inbox::show))
        .route("/inbox/{approval}/edit", get(inbox::edit_form).post(inbox::edit))
        .route("/inbox/{approval}/{decision}", post(inbox::decide))
        .route("/login", get(pages::login).post(pages::sign_in))
        .route("/logout", post(pages::sign_out))
        .layer(from_fn_with_state(service.clone(), door::door));
    pages.route("/assets/{hash}/{name}", get(pages::asset))
}
