import assert from "node:assert/strict";
import test from "node:test";
import { hashOf, placeOf } from "../src/url";

const OTHERS = "#profkit&runSelectionState=eyJ9&p.other.run=x";

test("a place comes back from its address, whatever names hold", () => {
  const place = {
    run: "a b/rank=3",
    view: "operators",
    search: '^<img onerror="x">&p.profkit.run=y#=+%😀$',
    start: "0",
  };
  assert.deepEqual(placeOf(hashOf("#profkit", place)), place);
});

test("what others wrote into the address stays", () => {
  const hash = hashOf(`${OTHERS}&p.profkit.run=old&p.profkit.step=3`, { run: "new" });
  assert.equal(hash, `${OTHERS}&p.profkit.run=new`);
  assert.deepEqual(placeOf(hash), { run: "new" });
});

test("what is empty takes no place", () => {
  assert.equal(hashOf("", { run: "a", search: "" }), "#p.profkit.run=a");
});

test("half a surrogate pair does not break the address", () => {
  assert.equal(placeOf(hashOf("", { search: "\ud800" })).search, "\ufffd");
});

test("addresses written by others are read, with %20 and without a tab", () => {
  assert.deepEqual(placeOf("#p.profkit.run=a%20b&p.profkit.view=memory"), { run: "a b", view: "memory" });
});
