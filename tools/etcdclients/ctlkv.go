package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

func lines(l ...string) []string { return l }

// pairs is what etcdctl prints for keys and values: one line each.
func pairs(prefix string, kvs ...string) []string {
	for i := 0; i < len(kvs); i += 2 {
		kvs[i] = prefix + kvs[i]
	}
	return kvs
}

func putRow(s *script) {
	k := s.key
	s.want(lines("OK"), "put", k+"a", "1")
	if got := s.in("from stdin", "put", k+"a"); got != "OK" {
		s.fail("put from standard input: %q", got)
	}
	s.want(lines("OK", k+"a", "from stdin"), "put", k+"a", "3", "--prev-kv")
	s.want(lines("OK"), "put", k+"empty", "")
	s.want(lines(k+"empty", ""), "get", k+"empty")
	s.want(lines("OK"), "put", "--", k+"dash", "-value")

	lease := s.grant(300)
	s.want(lines("OK"), "put", k+"a", "4", "--lease", lease)
	s.want(lines("OK"), "put", k+"a", "5", "--ignore-lease")
	with := s.get(k + "a").Kvs
	s.check(len(with) == 1 && fmt.Sprintf("%016x", with[0].Lease) == lease, "--ignore-lease lost lease %s: %v", lease, with)
	s.want(lines("OK"), "put", k+"a", "--ignore-value")
	without := s.get(k + "a").Kvs
	s.check(len(without) == 1 && without[0].Lease == 0 && string(without[0].Value) == "5",
		"--ignore-value without a lease has to keep the value and detach the lease: %v", without)
	if len(with) == 1 && len(without) == 1 {
		s.check(without[0].Version == 6 && without[0].CreateRevision == with[0].CreateRevision && without[0].ModRevision == with[0].ModRevision+1,
			"after six puts: %v, before the last: %v", without[0], with[0])
	}
	s.run("lease", "revoke", lease)
	s.want(lines(k+"a", "5"), "get", k+"a")

	before := s.revision()
	s.refused("etcdserver: key is not provided", "put", "", "1")
	s.refused("etcdserver: key not found", "put", k+"none", "--ignore-value")
	s.refused("etcdserver: key not found", "put", k+"none", "1", "--ignore-lease")
	s.refused("etcdserver: requested lease not found", "put", k+"a", "1", "--lease", "7fffffff")
	s.check(s.revision() == before, "puts that were refused took a revision")
}

func getRow(s *script) {
	k := s.key
	// The order of the keys, of their values, of creation, of modification and of versions are all different.
	for _, kv := range []string{"c=3", "a=5", "b=4", "e=1", "d=2"} {
		s.run("put", k+kv[:1], kv[2:])
	}
	first := s.get(k + "b")
	if len(first.Kvs) != 1 {
		s.fail("get: %v", first)
		return
	}
	created := first.Kvs[0].CreateRevision
	s.run("put", k+"b", "4")
	s.run("put", k+"b", "4")
	s.run("put", k+"a", "5")

	s.want(pairs(k, "a", "5"), "get", k+"a")
	s.want(lines(""), "get", k+"none")
	s.want(pairs(k, "a", "5", "b", "4", "c", "3", "d", "2", "e", "1"), "get", k, "--prefix")
	s.want(pairs(k, "b", "4", "c", "3"), "get", k+"b", k+"d")
	s.want(pairs(k, "c", "3", "d", "2", "e", "1"), "get", k+"c", "--from-key", "--limit", "3")
	s.want(pairs(k, "a", "5", "b", "4"), "get", k, "--prefix", "--limit", "2")
	s.want(lines("5", "4", "3", "2", "1"), "get", k, "--prefix", "--print-value-only")
	s.want(pairs(k, "a", "5"), "get", k+"a", "--consistency", "s")
	s.want(keysOf(k, "ab"), "get", k, "--prefix", "--keys-only", "--limit", "2")

	for by, order := range map[string]string{"KEY": "abcde", "CREATE": "cabed", "VALUE": "edcba", "MODIFY": "cedba"} {
		s.want(keysOf(k, order), "get", k, "--prefix", "--keys-only", "--sort-by", by, "--order", "ASCEND")
		s.want(keysOf(k, reverse(order)), "get", k, "--prefix", "--keys-only", "--sort-by", by, "--order", "DESCEND")
	}
	s.want(keysOf(k, "ba"), "get", k, "--prefix", "--keys-only", "--sort-by", "VERSION", "--order", "DESCEND", "--limit", "2")
	s.want(keysOf(k, "edcba"), "get", k, "--prefix", "--keys-only", "--order", "DESCEND")

	r := s.get(k, "--prefix", "--limit", "2")
	s.check(r.More && r.Count == 5 && len(r.Kvs) == 2, "--limit 2 of 5: more %v, count %d, %d keys", r.More, r.Count, len(r.Kvs))
	s.check(r.Header.ClusterId != 0 && r.Header.MemberId != 0, "the header has no cluster or member: %v", r.Header)
	r = s.get(k + "b")
	s.check(r.Count == 1 && len(r.Kvs) == 1 && r.Kvs[0].Version == 3 && r.Kvs[0].CreateRevision == created && r.Kvs[0].ModRevision > created && r.Header.Revision >= r.Kvs[0].ModRevision,
		"after three puts: %v", r)
	fields := s.run("get", k+"b", "-w", "fields")
	s.check(strings.Contains(fields, `"Version" : 3`) && strings.Contains(fields, fmt.Sprintf(`"CreateRevision" : %d`, created)), "-w fields: %q", fields)

	at := s.get(k, "--prefix", "--rev", fmt.Sprint(created))
	s.check(len(at.Kvs) == 3 && at.Count == 3 && at.Header.Revision > created, "--rev %d has to show c, a and b under today's header: %v", created, at)
	s.want(keysOf(k, "cb"), "get", k, "--prefix", "--keys-only", "--rev", fmt.Sprint(created), "--sort-by", "VALUE", "--limit", "2")
	s.refused("etcdserver: mvcc: required revision is a future revision", "get", k+"a", "--rev", fmt.Sprint(s.revision()+1000))
	s.refused("etcdserver: key is not provided", "get", "")
	if !s.old {
		count := s.run("get", k, "--prefix", "--count-only", "-w", "fields")
		s.check(strings.HasSuffix(count, `"More" : false`+"\n"+`"Count" : 5`), "--count-only: %q", count)
		s.want(keysOf(k, "ab"), "get", k, "--prefix", "--keys-only", "--min-mod-rev", fmt.Sprint(created+3))
		s.want(keysOf(k, "abc"), "get", k, "--prefix", "--keys-only", "--max-create-rev", fmt.Sprint(created))
		s.want(keysOf(k, "ed"), "get", k, "--prefix", "--keys-only", "--min-create-rev", fmt.Sprint(created+1), "--sort-by", "CREATE")
		s.want(keysOf(k, "cde"), "get", k, "--prefix", "--keys-only", "--max-mod-rev", fmt.Sprint(created+2))
		r = s.get(k, "--prefix", "--min-mod-rev", fmt.Sprint(created+3))
		s.check(r.Count == 5, "the count is that of the range, not of what is filtered: %v", r)
	}
}

// keysOf is what --keys-only prints: an empty line after each key, where there would be a value.
func keysOf(prefix, names string) []string {
	var ls []string
	for _, n := range names {
		ls = append(ls, prefix+string(n), "")
	}
	return ls
}

func reverse(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func delRow(s *script) {
	k := s.key
	put := func(names string) {
		for _, n := range names {
			s.run("put", k+string(n), "v"+string(n))
		}
	}
	put("abcdef")
	s.want(lines("1"), "del", k+"a")
	before := s.revision()
	s.want(lines("0"), "del", k+"a")
	s.check(s.revision() == before, "a delete of nothing took a revision")
	s.want(lines("1", k+"b", "vb"), "del", k+"b", "--prev-kv")
	s.want(lines("2"), "del", k+"c", k+"e")
	s.check(s.revision() == before+2, "two deletes took %d revisions", s.revision()-before)
	put("x")
	s.want(lines("3", k+"e", "ve", k+"f", "vf", k+"x", "vx"), "del", k, "--prefix", "--prev-kv")
	s.want(lines(""), "get", k, "--prefix")

	put("y")
	again := s.get(k + "y").Kvs
	s.check(len(again) == 1 && again[0].Version == 1 && again[0].CreateRevision == again[0].ModRevision, "a key that is new: %v", again)
	// Everything from here on is this row's own: nobody else writes keys that are not UTF-8.
	s.run("put", "\xff\xfe"+k+"1", "1")
	s.run("put", "\xff\xfe"+k+"2", "2")
	s.want(lines("2"), "del", "\xff\xfe"+k, "--from-key")
	s.refused("etcdserver: key is not provided", "del", "")
}

func txnRow(s *script) {
	k := s.key
	s.run("put", k+"a", "1")
	kv := s.get(k + "a").Kvs
	if len(kv) != 1 {
		s.fail("get: %v", kv)
		return
	}
	compares := fmt.Sprintf("mod(%[1]q) = \"%[2]d\"\ncreate(%[1]q) > \"0\"\nver(%[1]q) < \"2\"\nval(%[1]q) = \"1\"\n", k+"a", kv[0].ModRevision)
	if !s.old { // 3.4 panics over its own lease compare
		compares += fmt.Sprintf("lease(%q) = \"0\"\n", k+"a")
	}
	body := fmt.Sprintf("\nput %[1]sb new\nget %[1]sa\ndel %[1]sa\nput %[1]sc \"two words\"\n\nput %[1]sfailed yes\nget %[1]s --prefix\n\n", k)
	want := "SUCCESS\n\nOK\n\n" + k + "a\n1\n\n1\n\nOK"
	if got := s.in(compares+body, "txn"); got != want {
		s.fail("txn that succeeds: %q, want %q", got, want)
	}
	b, c := s.get(k+"b").Kvs, s.get(k+"c").Kvs
	s.check(len(b) == 1 && len(c) == 1 && b[0].ModRevision == kv[0].ModRevision+1 && c[0].ModRevision == b[0].ModRevision && string(c[0].Value) == "two words",
		"one revision for the whole transaction after %d: %v %v", kv[0].ModRevision, b, c)
	s.want(lines(""), "get", k+"a")
	want = "FAILURE\n\nOK\n\n" + strings.Join(pairs(k, "b", "new", "c", "two words", "failed", "yes"), "\n")
	if got := s.in(compares+body, "txn"); got != want {
		s.fail("txn that fails: %q, want %q", got, want)
	}
	before := s.revision()
	got := s.in("val(\""+k+"b\") = \"new\"\n\nget "+k+"b\n\n\n", "txn", "-i")
	s.check(strings.HasPrefix(got, "compares:\n") && strings.Contains(got, "success requests (get, put, del):") && strings.HasSuffix(got, "SUCCESS\n\n"+k+"b\nnew"), "txn -i: %q", got)
	if got := s.in("\n\n\n", "txn"); got != "SUCCESS" {
		s.fail("empty txn: %q", got)
	}
	// A transaction is judged as a whole before anything of it is done.
	s.inRefused(fmt.Sprintf("\nput %[1]sd 1\nput %[1]sd 2\n\n\n", k), "etcdserver: duplicate key given in txn request", "txn")
	s.inRefused(fmt.Sprintf("\nput %[1]sd 1\ndel %[1]s --prefix\n\n\n", k), "etcdserver: duplicate key given in txn request", "txn")
	s.inRefused(fmt.Sprintf("\nput %[1]sd 1\nput %[1]se 2 --lease=7fffffff\n\n\n", k), "etcdserver: requested lease not found", "txn")
	many := "\n" + strings.Repeat("get "+k+"b\n", 129) + "\n\n"
	s.inRefused(many, "etcdserver: too many operations in txn request", "txn")
	s.want(lines(""), "get", k+"d")
	s.check(s.revision() == before, "transactions that read, are empty or refused took %d revisions", s.revision()-before)
}

func watchRow(s *script) {
	k := s.key
	s.run("put", k+"a", "0")
	from := s.revision()
	s.run("put", k+"a", "1")
	s.run("put", k+"b", "1")
	s.run("put", s.prefix+"elsewhere", "1")
	s.run("del", k+"a")
	w := s.start("watch", k, "--prefix", "--prev-kv", "--rev", fmt.Sprint(from))
	plain := s.start("watch", k+"c")
	one := s.start("watch", k+"b", "--rev", fmt.Sprint(from), "-w", "json")
	if w == nil || plain == nil || one == nil {
		return
	}
	defer w.kill()
	defer plain.kill()
	defer one.kill()
	s.must(w.expect(s.ctx, "PUT", k+"a", "0", "PUT", k+"a", "0", k+"a", "1", "PUT", k+"b", "1", "DELETE", k+"a", "1", k+"a", ""))
	s.in(fmt.Sprintf("\nput %[1]sb 2\nput %[1]sc 1\n\n\n", k), "txn")
	s.run("del", k, "--prefix")
	s.run("put", k+"b", "9")
	s.must(w.expect(s.ctx, "PUT", k+"b", "1", k+"b", "2", "PUT", k+"c", "1",
		"DELETE", k+"b", "2", k+"b", "", "DELETE", k+"c", "1", k+"c", "", "PUT", k+"b", "9"))
	// This watch has no start revision, so nobody can say at which event it began.
	for i := 0; ; i++ {
		s.run("put", k+"c", fmt.Sprint("late ", i))
		if len(plain.lines) > 0 || s.ctx.Err() != nil || i == 100 {
			break
		}
	}
	l, err := plain.line(s.ctx)
	s.must(err)
	s.check(l == "PUT" || l == "DELETE", "watch of one key: %q", l)
	// How many events come in one message is the member's business.
	var events string
	for n := 0; n < 4; {
		var m struct{ Events []struct{ Type int } }
		l, err := one.line(s.ctx)
		if err == nil {
			err = json.Unmarshal([]byte(l), &m)
		}
		if err != nil {
			s.fail("watch -w json after %q: %w", events, err)
			break
		}
		n += len(m.Events)
		events += l
	}
	for _, want := range lines(`"version":1`, `"version":2`, `"type":1`) {
		s.check(strings.Contains(events, want), "watch -w json: %q has no %s", events, want)
	}
	s.must(w.interrupt())
	<-w.done
}

func watchInteractiveRow(s *script) {
	k := s.key
	s.run("put", k+"x", "1")
	from := s.revision()
	w := s.start("watch", "-i")
	if w == nil {
		return
	}
	defer w.kill()
	fmt.Fprintf(w.stdin, "watch %sx --rev=%d\n", k, from)
	s.must(w.expect(s.ctx, "PUT", k+"x", "1"))
	fmt.Fprintf(w.stdin, "watch %sy --rev=%d\n", k, from)
	s.run("put", k+"y", "2")
	s.must(w.expect(s.ctx, "PUT", k+"y", "2"))
	// A member may answer before it has told of the last put; then the next one counts.
	for want := s.revision(); s.ctx.Err() == nil; {
		fmt.Fprintln(w.stdin, "progress")
		l, err := w.line(s.ctx)
		if err != nil {
			s.fail("progress: %w", err)
			return
		}
		var rev int64
		if _, err := fmt.Sscanf(l, "progress notify: %d", &rev); err != nil {
			s.fail("progress: %q: %w", l, err)
			return
		}
		if rev >= want {
			return
		}
	}
	s.must(s.ctx.Err())
}

func watchCommandRow(s *script) {
	k := s.key
	s.run("put", k+"x", "value")
	from := s.revision()
	w := s.start("watch", k+"x", "--rev", fmt.Sprint(from), "--", "sh", "-c", `echo "$ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"`)
	if w == nil {
		return
	}
	defer w.kill()
	// etcdctl prints the event itself, too.
	s.must(w.expect(s.ctx, "PUT", k+"x", "value"))
	l, err := w.line(s.ctx)
	s.must(err)
	s.check(strings.HasSuffix(l, fmt.Sprintf(` "PUT" %q "value"`, k+"x")), "command of watch: %q", l)
}
