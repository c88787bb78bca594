"""Routes on collections, each a file on disk: create, read, delete, add and remove items."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from hub_server.answers import Answer, Refusal, Request, told
from hub_server.routes import HubState, owns, route
from hub_server.store import now, write_whole

SLUG = r"/api/collections/([^/]+/[^/]+)"


def place(hub: HubState, slug: str) -> Path:
    return hub.folder / "collections" / f"{slug}.json"


def read(hub: HubState, request: Request, slug: str) -> dict[str, Any]:
    path = place(hub, slug)
    collection = json.loads(path.read_bytes()) if path.is_file() else None
    if collection is None or (collection["private"] and not request.user):
        raise Refusal(404, "Collection not found")
    return collection


def keep(hub: HubState, collection: dict[str, Any]) -> Answer:
    collection["lastUpdated"] = now()
    write_whole(place(hub, collection["slug"]), [json.dumps(collection).encode()])
    return told(collection)


@route("POST", r"/api/collections")
def create(hub: HubState, request: Request) -> Answer:
    """Create a collection; its slug is made of its title, so the same title is the same collection."""
    asked = request.json()
    owns(hub, request, asked["namespace"], "create a collection")
    words = re.sub(r"[^a-z0-9]+", "-", asked["title"].lower()).strip("-")
    slug = f"{asked['namespace']}/{words}-{hashlib.sha1(asked['title'].encode()).hexdigest()[:24]}"
    if place(hub, slug).is_file():
        raise Refusal(409, "This collection already exists", slug=slug)
    shown = {"title": asked["title"], "description": asked.get("description"), "private": bool(asked.get("private"))}
    owner = {"name": asked["namespace"], "type": "user" if asked["namespace"] == hub.user else "org"}
    rest = {"position": 0, "theme": "green", "upvotes": 0, "items": []}
    return keep(hub, {"slug": slug, "owner": owner, **shown, **rest})


@route("GET", SLUG)
def collection(hub: HubState, request: Request, slug: str) -> Answer:
    return told(read(hub, request, slug))


@route("PATCH", SLUG)
def change(hub: HubState, request: Request, slug: str) -> Answer:
    owns(hub, request, slug.partition("/")[0], "change a collection")
    return told({"success": True, "data": json.loads(keep(hub, read(hub, request, slug) | request.json()).body)})


@route("DELETE", SLUG)
def delete(hub: HubState, request: Request, slug: str) -> Answer:
    owns(hub, request, slug.partition("/")[0], "delete a collection")
    read(hub, request, slug)
    place(hub, slug).unlink()
    return told({})


@route("POST", SLUG + "/items")
def add_item(hub: HubState, request: Request, slug: str) -> Answer:
    """Add a repository that exists, or a paper: once each."""
    owns(hub, request, slug.partition("/")[0], "change a collection")
    shelf, asked = read(hub, request, slug), request.json()
    item = asked["item"]
    if item["type"] != "paper" and not hub.store.repository(f"{item['type']}s", item["id"]).exists():
        raise Refusal(404, f"{item['type']} {item['id']} not found")
    if any((other["type"], other["id"]) == (item["type"], item["id"]) for other in shelf["items"]):
        raise Refusal(409, "This item is already in the collection")
    oid = hashlib.sha1(f"{slug} {item}".encode()).hexdigest()[:24]
    note = {"note": {"text": asked["note"]}} if asked.get("note") else {}
    shelf["items"].append({"_id": oid, **item, "position": len(shelf["items"]), **note})
    return keep(hub, shelf)


@route("DELETE", SLUG + r"/items/([0-9a-f]+)")
def remove_item(hub: HubState, request: Request, slug: str, oid: str) -> Answer:
    owns(hub, request, slug.partition("/")[0], "change a collection")
    shelf = read(hub, request, slug)
    left = [item for item in shelf["items"] if item["_id"] != oid]
    if len(left) == len(shelf["items"]):
        raise Refusal(404, "Item not found")
    shelf["items"] = [{**item, "position": at} for at, item in enumerate(left)]
    return keep(hub, shelf)
