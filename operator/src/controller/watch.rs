//! The watches, as one stream of news. A watch that fails is begun again, by and by.

use std::fmt::Debug;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::observe::{News, installers};

/// More than a list of a large cluster says at once would be kept nowhere else either: the watch
/// waits.
const ROOM: usize = 1024;

/// Begins every watch.
pub(super) fn all(context: &Context) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(ROOM);
    let client = &context.client;
    let everything = watcher::Config::default();
    let ours = watcher::Config::default().labels(&installers());
    let namespace = &context.settings.namespace;
    feed(
        Api::all(client.clone()),
        everything.clone(),
        &sender,
        News::Runtime,
    );
    feed(
        Api::all(client.clone()),
        everything.clone(),
        &sender,
        News::RuntimeNode,
    );
    feed(
        Api::<Node>::all(client.clone()),
        everything.clone(),
        &sender,
        News::Node,
    );
    feed(Api::all(client.clone()), everything, &sender, News::Class);
    feed(
        Api::<Job>::namespaced(client.clone(), namespace),
        ours.clone(),
        &sender,
        News::Job,
    );
    feed(
        Api::<Pod>::namespaced(client.clone(), namespace),
        ours,
        &sender,
        News::Pod,
    );
    // What keeps a pod from being made or mounted stands nowhere else.
    let warnings = watcher::Config::default().fields("type=Warning");
    feed(
        Api::<Event>::namespaced(client.clone(), namespace),
        warnings,
        &sender,
        News::Event,
    );
    receiver
}

/// Passes on what a watch says until nobody listens.
fn feed<K>(
    api: Api<K>,
    config: watcher::Config,
    sender: &mpsc::Sender<News>,
    news: fn(watcher::Event<K>) -> News,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let sender = sender.clone();
    tokio::spawn(async move {
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if sender.send(news(event)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(kind = std::any::type_name::<K>(), error = %error, "a watch \
                                                            failed and is begun again");
                }
            }
        }
    });
}
