package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// object is JSON as the gateway writes it: 64-bit numbers are strings, bytes are base64.
type object = map[string]any

func httpSuite(ctx context.Context, e *env, r *report) {
	g := &gateway{env: e, key: e.prefix + "http/"}
	r.row(ctx, "http/version", g.version)
	r.row(ctx, "http/kv", g.kv)
	r.row(ctx, "http/errors", g.refusals)
	r.row(ctx, "http/lease", g.lease)
	r.row(ctx, "http/watch", g.watch)
}

// gateway speaks JSON to the first address, and asks each for its version and health.
type gateway struct {
	*env
	key string
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func request(ctx context.Context, method, url string, body any) (status int, answer object, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	q, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(b))
	if err != nil {
		return 0, nil, err
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	if b, err = io.ReadAll(a.Body); err != nil {
		return 0, nil, err
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return 0, nil, fmt.Errorf("%s: %s: %q: %w", url, a.Status, b, err)
	}
	return a.StatusCode, answer, nil
}

func (g *gateway) post(ctx context.Context, path string, body any) (object, error) {
	status, answer, err := request(ctx, http.MethodPost, g.http[0]+path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d %v", path, status, answer)
	}
	return answer, err
}

func (g *gateway) version(ctx context.Context) (string, error) {
	var note string
	for _, u := range g.http {
		status, v, err := request(ctx, http.MethodGet, u+"/version", nil)
		if server, _ := v["etcdserver"].(string); err != nil || status != http.StatusOK || !strings.HasPrefix(server, "3.") || v["etcdcluster"] == nil {
			return "", fmt.Errorf("%s/version: %d %v %v", u, status, v, err)
		}
		note = fmt.Sprint(v)
		if status, h, err := request(ctx, http.MethodGet, u+"/health", nil); err != nil || status != http.StatusOK || h["health"] != "true" {
			return "", fmt.Errorf("%s/health: %d %v %v", u, status, h, err)
		}
	}
	return note, nil
}

func (g *gateway) kv(ctx context.Context) (string, error) {
	put, err := g.post(ctx, "/v3/kv/put", object{"key": b64(g.key + "a"), "value": b64("1")})
	if err != nil {
		return "", err
	}
	header, _ := put["header"].(object)
	rev, ok := header["revision"].(string)
	if !ok {
		return "", fmt.Errorf("put: %v", put)
	}
	txn, err := g.post(ctx, "/v3/kv/txn", object{
		"compare": []object{{"target": "MOD", "result": "EQUAL", "key": b64(g.key + "a"), "mod_revision": rev}},
		"success": []object{{"request_put": object{"key": b64(g.key + "b"), "value": b64("2")}}, {"request_range": object{"key": b64(g.key + "a")}}},
		"failure": []object{{"request_delete_range": object{"key": b64(g.key + "a")}}},
	})
	if rs, _ := txn["responses"].([]any); err != nil || txn["succeeded"] != true || len(rs) != 2 {
		return "", fmt.Errorf("txn: %v %v", txn, err)
	}
	end := g.key[:len(g.key)-1] + "0"
	got, err := g.post(ctx, "/v3/kv/range", object{"key": b64(g.key), "range_end": b64(end), "sort_order": "DESCEND", "sort_target": "KEY", "limit": 1})
	kvs, _ := got["kvs"].([]any)
	if err != nil || len(kvs) != 1 || got["more"] != true || got["count"] != "2" || kvs[0].(object)["value"] != b64("2") || kvs[0].(object)["version"] != "1" {
		return "", fmt.Errorf("range: %v %v", got, err)
	}
	del, err := g.post(ctx, "/v3/kv/deleterange", object{"key": b64(g.key), "range_end": b64(end), "prev_kv": true})
	if prev, _ := del["prev_kvs"].([]any); err != nil || del["deleted"] != "2" || len(prev) != 2 {
		return "", fmt.Errorf("deleterange: %v %v", del, err)
	}
	for _, path := range []string{"/v3/maintenance/status", "/v3/cluster/member/list", "/v3/lease/leases"} {
		if a, err := g.post(ctx, path, object{}); err != nil || a["header"] == nil {
			return "", fmt.Errorf("%s: %v %v", path, a, err)
		}
	}
	return "", nil
}

// refusals are what programs such as Patroni tell apart: the HTTP status, the gRPC code and the text.
func (g *gateway) refusals(ctx context.Context) (string, error) {
	for _, c := range []struct {
		path   string
		body   object
		status int
		code   float64
		text   string
	}{
		{"/v3/kv/range", object{}, 400, 3, "etcdserver: key is not provided"},
		{"/v3/kv/put", object{"key": b64(g.key), "lease": "77"}, 404, 5, "etcdserver: requested lease not found"},
		{"/v3/kv/range", object{"key": b64("x"), "revision": "999999999"}, 400, 11, "etcdserver: mvcc: required revision is a future revision"},
		{"/v3/lease/revoke", object{"ID": "77"}, 404, 5, "etcdserver: requested lease not found"},
		{"/v3/auth/authenticate", object{"name": "root", "password": "x"}, 400, 9, "etcdserver: authentication is not enabled"},
	} {
		status, a, err := request(ctx, http.MethodPost, g.http[0]+c.path, c.body)
		if err != nil || status != c.status || a["code"] != c.code || a["message"] != c.text {
			return "", fmt.Errorf("%s %v: %d %v %v, want %d, code %v, %q", c.path, c.body, status, a, err, c.status, c.code, c.text)
		}
	}
	return "", nil
}

func (g *gateway) lease(ctx context.Context) (string, error) {
	granted, err := g.post(ctx, "/v3/lease/grant", object{"TTL": 300})
	id, ok := granted["ID"].(string)
	if err != nil || !ok || granted["TTL"] != "300" {
		return "", fmt.Errorf("grant: %v %v", granted, err)
	}
	if _, err := g.post(ctx, "/v3/kv/put", object{"key": b64(g.key + "l"), "lease": id}); err != nil {
		return "", err
	}
	// A stream, each answer of which is wrapped as a result.
	kept, err := g.post(ctx, "/v3/lease/keepalive", object{"ID": id})
	if r, _ := kept["result"].(object); err != nil || r["TTL"] != "300" || r["ID"] != id {
		return "", fmt.Errorf("keepalive: %v %v", kept, err)
	}
	left, err := g.post(ctx, "/v3/lease/timetolive", object{"ID": id, "keys": true})
	if keys, _ := left["keys"].([]any); err != nil || left["grantedTTL"] != "300" || len(keys) != 1 || keys[0] != b64(g.key+"l") {
		return "", fmt.Errorf("timetolive: %v %v", left, err)
	}
	if _, err := g.post(ctx, "/v3/lease/revoke", object{"ID": id}); err != nil {
		return "", err
	}
	if got, err := g.post(ctx, "/v3/kv/range", object{"key": b64(g.key + "l")}); err != nil || got["kvs"] != nil {
		return "", fmt.Errorf("after the revocation: %v %v", got, err)
	}
	kept, err = g.post(ctx, "/v3/lease/keepalive", object{"ID": id})
	if r, _ := kept["result"].(object); err != nil || r["TTL"] != nil && r["TTL"] != "0" {
		return "", fmt.Errorf("keepalive of a lease that is gone: %v %v", kept, err)
	}
	return "", nil
}

func (g *gateway) watch(ctx context.Context) (string, error) {
	put, err := g.post(ctx, "/v3/kv/put", object{"key": b64(g.key + "w"), "value": b64("1")})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(object{"create_request": object{"key": b64(g.key + "w"), "start_revision": put["header"].(object)["revision"], "prev_kv": true}})
	if err != nil {
		return "", err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, g.http[0]+"/v3/watch", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	s := bufio.NewScanner(a.Body)
	next := func() (object, error) {
		var m struct{ Result object }
		if !s.Scan() {
			return nil, fmt.Errorf("watch ended: %w", s.Err())
		}
		err := json.Unmarshal(s.Bytes(), &m)
		return m.Result, err
	}
	if m, err := next(); err != nil || m["created"] != true {
		return "", fmt.Errorf("watch: %v %v", m, err)
	}
	if m, err := next(); err != nil || !strings.Contains(fmt.Sprint(m["events"]), "value:"+b64("1")) {
		return "", fmt.Errorf("watch of the past: %v %v", m, err)
	}
	if _, err := g.post(ctx, "/v3/kv/deleterange", object{"key": b64(g.key + "w")}); err != nil {
		return "", err
	}
	if m, err := next(); err != nil || !strings.Contains(fmt.Sprint(m["events"]), "prev_kv") || !strings.Contains(fmt.Sprint(m["events"]), "type:DELETE") {
		return "", fmt.Errorf("watch of a delete: %v %v", m, err)
	}
	return "", nil
}
