//! The routes and what they do.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query as FromQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Response, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, response};
use serde::Serialize;
use timburn_infer::Prediction;
use tokio::task::JoinSet;

use super::app::App;
use super::body::{self, Held};
use super::error::{ApiError, Told};
use super::input::{self, Query};
use super::models::Served;
use super::pictures::{Labelled, in_time};
use super::{metrics, openapi, page};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const X_LABEL: HeaderName = HeaderName::from_static("x-label");
/// Labels that an answer has where nobody asks for another number, as Hugging Face's.
const TOP_K: usize = 5;

type Shared = State<Arc<App>>;
type Asked = Result<FromQuery<Query>, QueryRejection>;
type Answer = Result<response::Response, ApiError>;

/// Method, path, handler: what `/api/openapi.json` describes.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("get", "/livez", get(async || "ok")),
        ("get", "/readyz", get(readyz)),
        ("get", "/metrics", get(metrics_text)),
        ("get", "/api/models", get(models)),
        ("get", "/api/models/{name}/card", get(card)),
        ("get", "/api/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], openapi::document()))),
        ("post", "/api/classify", post(classify)),
        ("post", "/api/classify/batch", post(classify_batch)),
        ("post", "/api/explain", post(explain)),
        ("post", "/models/{name}", post(classify_by_path)),
    ]
}

/// The route that an answer comes from: the metrics name routes, not the paths that clients think up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route(pub(super) &'static str);

/// The application.
pub(super) fn router(app: Arc<App>) -> Router {
    let assets = page::ASSETS.iter().map(|&(path, kind, content)| ("get", path, get(async move || page::answer(kind, content))));
    let mut router = Router::new();
    for (_, path, handler) in routes().into_iter().chain(assets) {
        let mark = async move |request: Request, next: Next| {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Route(path));
            response
        };
        router = router.route(path, handler.route_layer(from_fn(mark)));
    }
    router
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async || ApiError::not_found("there is nothing at this address; /api/openapi.json lists what there is"))
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn readyz(State(app): Shared) -> Answer {
    match (app.is_ready(), app.draining()) {
        (true, _) => Ok("ready".into_response()),
        (false, true) => Err(ApiError::not_ready("the server is ending")),
        (false, false) => Err(ApiError::not_ready("the models are being loaded")),
    }
}

async fn metrics_text(State(app): Shared) -> response::Response {
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], app.metrics_text()).into_response()
}

#[derive(Serialize)]
struct ModelRow<'a> {
    name: &'a str,
    architecture: &'a str,
    classes: usize,
    /// Height and width in pixels.
    input: [usize; 2],
    default: bool,
    card: String,
}

async fn models(State(app): Shared) -> Answer {
    let rows = app.models()?.0.iter().enumerate().map(|(index, model)| ModelRow {
        name: &model.name,
        architecture: &model.architecture,
        classes: model.classes.len(),
        input: [model.preprocessing.input; 2],
        default: index == 0,
        card: format!("/api/models/{}/card", model.name),
    });
    Ok(Json(rows.collect::<Vec<_>>()).into_response())
}

async fn card(State(app): Shared, Path(name): Path<String>) -> Answer {
    let model = app.models()?.find(Some(&name))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], model.card.clone()).into_response())
}

/// One label, as Hugging Face's clients read it.
#[derive(Serialize)]
struct Label {
    label: String,
    score: f32,
}

fn labels(prediction: &Prediction, top_k: usize) -> Vec<Label> {
    prediction.top(top_k).into_iter().map(|guess| Label { label: guess.label, score: guess.probability }).collect()
}

async fn classify(State(app): Shared, query: Asked, request: Request) -> Answer {
    let query = asked(query)?;
    let model = Arc::clone(app.models()?.find(query.model.as_deref())?);
    classify_with(&app, &model, query.top_k, request).await
}

async fn classify_by_path(State(app): Shared, Path(name): Path<String>, query: Asked, request: Request) -> Answer {
    let query = asked(query)?;
    if query.model.is_some() {
        return Err(ApiError::bad_request("the path names the model already; leave `model` out of the query"));
    }
    let model = Arc::clone(app.models()?.find(Some(&name))?);
    classify_with(&app, &model, query.top_k, request).await
}

async fn classify_with(app: &App, model: &Arc<Served>, top_k: Option<usize>, request: Request) -> Answer {
    let (parts, held) = read(app, request).await?;
    let (picture, parameters) = input::one(parts, held.bytes).await?;
    let top_k = top(parameters.top_k.or(top_k))?;
    let _place = app.pipeline.admit(1)?;
    let labelled = in_time(app.pipeline.classify(model, picture, held.share)).await?;
    let timing = timing([labelled.decode, labelled.queued, labelled.forward]);
    Ok(([(SERVER_TIMING, timing)], Json(labels(&labelled.prediction, top_k))).into_response())
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Labels(Vec<Label>),
    Refused(Told),
}

async fn classify_batch(State(app): Shared, query: Asked, request: Request) -> Answer {
    let query = asked(query)?;
    let model = Arc::clone(app.models()?.find(query.model.as_deref())?);
    let (parts, Held { bytes, share }) = read(&app, request).await?;
    let (pictures, parameters) = input::many(&parts.headers, &bytes)?;
    drop(bytes);
    let top_k = top(parameters.top_k.or(query.top_k))?;
    let _place = app.pipeline.admit(pictures.len())?;
    let mut tasks = JoinSet::new();
    let mut outcomes: Vec<Result<Labelled, ApiError>> = Vec::new();
    for (index, picture) in pictures.into_iter().enumerate() {
        match picture {
            Ok(bytes) => {
                let (app, model, share) = (Arc::clone(&app), Arc::clone(&model), Arc::clone(&share));
                outcomes.push(Err(ApiError::internal()));
                tasks.spawn(async move { (index, app.pipeline.classify(&model, bytes, share).await) });
            }
            Err(error) => outcomes.push(Err(error)),
        }
    }
    drop(share);
    let finish = async {
        while let Some(done) = tasks.join_next().await {
            // A task that panicked leaves the fault of the server that is there already.
            if let Ok((index, outcome)) = done
                && let Some(slot) = outcomes.get_mut(index)
            {
                *slot = outcome;
            }
        }
        Ok(outcomes)
    };
    let outcomes = in_time(finish).await?;
    let longest = |part: fn(&Labelled) -> Duration| outcomes.iter().flatten().map(part).max().unwrap_or_default();
    let timing = timing([longest(|labelled| labelled.decode), longest(|labelled| labelled.queued), longest(|labelled| labelled.forward)]);
    let answer = |outcome: Result<Labelled, ApiError>| match outcome {
        Ok(labelled) => Outcome::Labels(labels(&labelled.prediction, top_k)),
        Err(error) => Outcome::Refused(error.told()),
    };
    Ok(([(SERVER_TIMING, timing)], Json(outcomes.into_iter().map(answer).collect::<Vec<_>>())).into_response())
}

async fn explain(State(app): Shared, query: Asked, request: Request) -> Answer {
    let query = asked(query)?;
    let model = Arc::clone(app.models()?.find(query.model.as_deref())?);
    let class = query.class.as_deref().map(|class| model.class(class)).transpose()?;
    let (parts, held) = read(&app, request).await?;
    let (picture, _) = input::one(parts, held.bytes).await?;
    let _place = app.pipeline.admit(1)?;
    let explained = in_time(async {
        let picture = app.pipeline.prepare(&model, picture, held.share).await?;
        app.explainer()?.explain(&model, picture, class).await
    })
    .await?;
    let mut response = Response::new(Body::from(explained.png));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
    if let Ok(label) = HeaderValue::from_str(&percent_encoded(&explained.label)) {
        response.headers_mut().insert(X_LABEL, label);
    }
    Ok(response)
}

async fn read(app: &App, request: Request) -> Result<(Parts, Held), ApiError> {
    let (parts, body) = request.into_parts();
    let held = body::read(body, &parts.headers, &app.bodies).await?;
    Ok((parts, held))
}

fn asked(query: Asked) -> Result<Query, ApiError> {
    let FromQuery(query) = query.map_err(|error| ApiError::bad_request(format!("{}; see /api/openapi.json", error.body_text())))?;
    Ok(query)
}

fn top(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked {
        Some(0) => Err(ApiError::bad_request("top_k is 0; ask for one label at least")),
        asked => Ok(asked.unwrap_or(TOP_K)),
    }
}

/// Milliseconds of decoding, waiting and computing.
fn timing([decode, queue, model]: [Duration; 3]) -> String {
    let ms = |part: Duration| part.as_secs_f64() * 1e3;
    format!("decode;dur={:.2}, queue;dur={:.2}, model;dur={:.2}", ms(decode), ms(queue), ms(model))
}

/// A label as a header can carry it: bytes beyond visible ASCII, and `%`, as `%XX`.
fn percent_encoded(label: &str) -> String {
    let encode = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    label.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: serde_json::Value = serde_json::from_str(openapi::document()).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()), "{method} {path}");
                described.push(format!("{method} {path}"));
            }
        }
        // Of the page's files only the page itself is part of the interface.
        let mut expected: Vec<String> = routes().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        expected.push("get /".into());
        described.sort();
        expected.sort();
        assert_eq!(described, expected);
    }

    #[test]
    fn references_of_the_description_lead_somewhere() {
        fn walk<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
            match value {
                serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| match value {
                    serde_json::Value::String(text) if key == "$ref" => found.push(text),
                    value => walk(value, found),
                }),
                serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let document: serde_json::Value = serde_json::from_str(openapi::document()).unwrap();
        let mut found = Vec::new();
        walk(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
    }

    #[test]
    fn labels_fit_into_a_header() {
        assert_eq!(percent_encoded("tabby, tabby cat"), "tabby, tabby cat");
        assert_eq!(percent_encoded("Bär 100 %\n"), "B%C3%A4r 100 %25%0A");
    }
}
