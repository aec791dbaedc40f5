package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func (s *script) grant(seconds int) (lease string) {
	if _, err := fmt.Sscanf(s.run("lease", "grant", fmt.Sprint(seconds)), fmt.Sprintf("lease %%s granted with TTL(%ds)", seconds), &lease); err != nil {
		s.fail("lease grant: %w", err)
	}
	return lease
}

func leaseRow(s *script) {
	k := s.key
	lease := s.grant(300)
	s.run("put", k+"a", "1", "--lease", lease)
	s.run("put", k+"b", "1", "--lease", lease)
	s.run("put", k+"c", "1")
	got := s.run("lease", "timetolive", lease, "--keys")
	var ttl, left int
	if _, err := fmt.Sscanf(got, "lease "+lease+" granted with TTL(%ds), remaining(%ds)", &ttl, &left); err != nil || ttl != 300 || left <= 0 || left > ttl {
		s.fail("timetolive: %q: %v", got, err)
	}
	_, keys, _ := strings.Cut(strings.TrimSuffix(got, "])"), "attached keys([")
	attached := strings.Fields(keys) // in no order
	slices.Sort(attached)
	s.check(slices.Equal(attached, lines(k+"a", k+"b")), "timetolive --keys: %q", got)
	s.want(lines("lease "+lease+" keepalived with TTL(300)"), "lease", "keep-alive", "--once", lease)
	list := s.run("lease", "list")
	s.check(strings.HasPrefix(list, "found ") && strings.Contains(list+"\n", "\n"+lease+"\n"), "lease list: %q", list)
	// A put without the lease takes the key away from it.
	s.run("put", k+"b", "2")
	before := s.revision()
	s.want(lines("lease "+lease+" revoked"), "lease", "revoke", lease)
	s.check(s.revision() == before+1, "the revocation took %d revisions", s.revision()-before)
	s.want(pairs(k, "b", "2", "c", "1"), "get", k, "--prefix")
	s.want(lines("lease "+lease+" already expired"), "lease", "timetolive", lease)
	s.refused("etcdserver: requested lease not found", "lease", "revoke", lease)
	s.refused("etcdserver: requested lease not found", "lease", "keep-alive", "--once", lease)
	empty := s.grant(300)
	before = s.revision()
	s.run("lease", "revoke", empty)
	s.check(s.revision() == before, "the revocation of a lease without keys took a revision")
	s.refused("etcdserver: too large lease TTL", "lease", "grant", "9000000001")
}

func leaseKeepAliveRow(s *script) {
	k := s.key
	kept, dropped := s.grant(5), s.grant(5)
	from := s.revision() + 1
	p := s.start("lease", "keep-alive", kept)
	w := s.start("watch", k, "--prefix", "--rev", fmt.Sprint(from))
	if p == nil || w == nil {
		return
	}
	defer p.kill()
	defer w.kill()
	s.run("put", k+"kept", "1", "--lease", kept)
	s.run("put", k+"dropped", "1", "--lease", dropped)
	s.must(w.expect(s.ctx, "PUT", k+"kept", "1", "PUT", k+"dropped", "1"))
	s.must(w.expect(s.ctx, "DELETE", k+"dropped", ""))
	for range 3 {
		s.must(p.expect(s.ctx, "lease "+kept+" keepalived with TTL(5)"))
	}
	s.want(pairs(k, "kept", "1"), "get", k, "--prefix")
	p.kill()
	s.must(w.expect(s.ctx, "DELETE", k+"kept", ""))
	s.want(lines("lease "+kept+" already expired"), "lease", "timetolive", kept)
}

func lockRow(s *script) {
	first := s.start("lock", s.key+"m")
	if first == nil {
		return
	}
	defer first.kill()
	key, err := first.line(s.ctx)
	s.must(err)
	s.check(strings.HasPrefix(key, s.key+"m/"), "lock prints %q", key)
	second := s.start("lock", s.key+"m")
	if second == nil {
		return
	}
	defer second.kill()
	// Once the second one's key is there, it waits for the first.
	for s.ctx.Err() == nil && len(s.get(s.key+"m/", "--prefix").Kvs) < 2 {
	}
	s.check(len(second.lines) == 0, "a second contender has the lock, too")
	s.must(first.interrupt())
	key2, err := second.line(s.ctx)
	s.must(err)
	s.check(strings.HasPrefix(key2, s.key+"m/") && key2 != key, "second lock prints %q after %q", key2, key)
	s.want(lines(""), "get", key)
	s.must(second.interrupt())
	s.must(first.wait(s.ctx))
	s.must(second.wait(s.ctx))
	s.want(lines(""), "get", s.key, "--prefix")
}

func lockCommandRow(s *script) {
	file := filepath.Join(s.dir, strings.ReplaceAll(s.key, "/", "-"))
	const rounds = 3
	var ps []*proc
	for range 2 * rounds {
		p := s.start("lock", s.key+"m", "--", "sh", "-c", `echo "$ETCD_LOCK_KEY $ETCD_LOCK_REV" >> "$0"; sleep 0.2; echo "$ETCD_LOCK_KEY $ETCD_LOCK_REV" >> "$0"`, file)
		if p != nil {
			defer p.kill()
			ps = append(ps, p)
		}
	}
	for _, p := range ps {
		s.must(p.wait(s.ctx))
	}
	b, err := os.ReadFile(file)
	s.must(err)
	ls := strings.Split(strings.TrimSpace(string(b)), "\n")
	s.check(len(ls) == 4*rounds, "%d lines of %d", len(ls), 4*rounds)
	last := int64(0)
	for i := 0; i+1 < len(ls); i += 2 {
		var key string
		var rev int64
		s.check(ls[i] == ls[i+1], "two commands under the lock at the same time:\n%s", b)
		if _, err := fmt.Sscanf(ls[i], "%s %d", &key, &rev); err != nil || rev <= last || !strings.HasPrefix(key, s.key) {
			s.fail("lock key and revision %q after revision %d: %v", ls[i], last, err)
		}
		last = rev
	}
	s.want(lines(""), "get", s.key, "--prefix")
	if _, _, err := output(s.ctx, "", s.argv("lock", s.key+"m", "--", "sh", "-c", "exit 7")...); err == nil {
		s.fail("the exit code of the command is lost")
	}
}

func electRow(s *script) {
	name := s.key + "e"
	a := s.start("elect", name, "value of a")
	if a == nil {
		return
	}
	defer a.kill()
	keyA, err := a.line(s.ctx)
	s.must(err)
	s.must(a.expect(s.ctx, "value of a"))
	s.check(strings.HasPrefix(keyA, name+"/"), "elect prints %q", keyA)
	l := s.start("elect", "-l", name)
	b := s.start("elect", name, "value of b")
	if l == nil || b == nil {
		return
	}
	defer l.kill()
	defer b.kill()
	s.must(l.expect(s.ctx, keyA, "value of a"))
	for s.ctx.Err() == nil && len(s.get(name+"/", "--prefix").Kvs) < 2 {
	}
	s.check(len(b.lines) == 0, "b leads beside a")
	// A proclamation of a's, put by hand because etcdctl has no command for it.
	s.run("put", keyA, "a again", "--ignore-lease")
	s.must(l.expect(s.ctx, keyA, "a again"))
	s.must(a.interrupt())
	keyB, err := b.line(s.ctx)
	s.must(err)
	s.must(b.expect(s.ctx, "value of b"))
	s.check(strings.HasPrefix(keyB, name+"/") && keyB != keyA, "b leads by %q after %q", keyB, keyA)
	s.must(l.expect(s.ctx, keyB, "value of b"))
	// SIGKILL: nobody resigns, the lease has to end it.
	c := s.start("elect", name, "value of c")
	if c == nil {
		return
	}
	defer c.kill()
	s.must(syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL))
	s.run("lease", "revoke", keyB[strings.LastIndexByte(keyB, '/')+1:])
	keyC, err := c.line(s.ctx)
	s.must(err)
	s.must(l.expect(s.ctx, keyC, "value of c"))
	s.must(c.interrupt())
	s.must(c.wait(s.ctx))
}
