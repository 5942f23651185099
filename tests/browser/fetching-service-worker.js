// A service worker that asks the network for something nobody knows of.

self.addEventListener("install", (event) => event.waitUntil(fetch("/tests/for-a-service-worker").then(() => self.skipWaiting())));
