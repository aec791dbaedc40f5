package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func compactionRow(s *script) {
	k := s.key
	for i := range 6 {
		s.run("put", k+"a", fmt.Sprint(i))
	}
	s.run("del", k+"a")
	last := s.revision() // the delete; put i is last-6+i
	at := last - 4
	below := "etcdserver: mvcc: required revision has been compacted"
	s.want(lines(fmt.Sprint("compacted revision ", at)), "compaction", fmt.Sprint(at))
	s.refused(below, "get", k+"a", "--rev", fmt.Sprint(at-1))
	s.want(lines(k+"a", "2"), "get", k+"a", "--rev", fmt.Sprint(at))
	s.refused(below, "compaction", fmt.Sprint(at))
	s.refused(below, "compaction", fmt.Sprint(at-1))
	s.refused("etcdserver: mvcc: required revision is a future revision", "compaction", fmt.Sprint(last+1000))
	s.refused(below, "watch", k+"a", "--rev", fmt.Sprint(at-1))
	w := s.start("watch", k+"a", "--rev", fmt.Sprint(at+1))
	if w == nil {
		return
	}
	defer w.kill()
	s.must(w.expect(s.ctx, "PUT", k+"a", "3", "PUT", k+"a", "4", "PUT", k+"a", "5", "DELETE", k+"a", ""))

	s.want(lines(fmt.Sprint("compacted revision ", at+2)), "compaction", fmt.Sprint(at+2), "--physical")
	s.refused(below, "get", k+"a", "--rev", fmt.Sprint(at+1))
	s.want(lines(k+"a", "4"), "get", k+"a", "--rev", fmt.Sprint(at+2))
	s.check(s.revision() == last, "compaction took a revision")
	// At a delete, where etcd itself had bugs: the tombstone has to stay visible to a watch that starts there or later.
	s.want(lines(fmt.Sprint("compacted revision ", last)), "compaction", fmt.Sprint(last), "--physical")
	s.refused(below, "get", k+"a", "--rev", fmt.Sprint(last-1))
	s.want(lines(""), "get", k+"a", "--rev", fmt.Sprint(last))
	s.run("put", k+"a", "again")
	w2 := s.start("watch", k+"a", "--rev", fmt.Sprint(last+1), "--prev-kv")
	if w2 == nil {
		return
	}
	defer w2.kill()
	s.must(w2.expect(s.ctx, "PUT", k+"a", "again"))
	s.must(w.expect(s.ctx, "PUT", k+"a", "again"))
}

// save takes a snapshot of the first endpoint after a put that has to be in it.
func (s *script) save() (file string, rev int64) {
	s.run("put", s.key+"in the snapshot", "yes")
	r := s.get(s.key + "in the snapshot")
	file = filepath.Join(s.dir, s.name+".db")
	if err := os.RemoveAll(file); err != nil {
		s.must(err)
	}
	stdout, stderr, err := output(s.ctx, "", s.path, "--endpoints", s.endpoints[0], "snapshot", "save", file)
	if err != nil || !strings.Contains(stdout, "Snapshot saved at "+file) {
		s.fail("snapshot save: %v: %q %s", err, stdout, stderr)
	}
	return file, r.Header.Revision
}

func snapshotRow(s *script) {
	file, _ := s.save()
	if i, err := os.Stat(file); err != nil || i.Size() == 0 {
		s.fail("snapshot: %v", err)
	} else {
		s.note = fmt.Sprintf("%d bytes", i.Size())
	}
}

func snapshotStatusRow(s *script) {
	file, rev := s.save()
	if len(s.errs) > 0 {
		return
	}
	argv := lines(s.path)
	if !s.old {
		etcdutl, err := tool(s.ctx, "etcdutl")
		if err != nil {
			s.must(err)
			return
		}
		argv = lines(etcdutl)
	}
	stdout, stderr, err := output(s.ctx, "", append(argv, "snapshot", "status", file, "-w", "json")...)
	var st struct {
		Hash, TotalKey, TotalSize int64
		Revision                  int64
	}
	if err == nil {
		err = json.Unmarshal([]byte(stdout), &st)
	}
	if err != nil {
		s.fail("snapshot status: %w: %s%s", err, stdout, stderr)
		return
	}
	// A member may be behind the one that answered the put, but never ahead of everybody.
	s.check(st.Hash != 0 && st.TotalKey > 0 && st.TotalSize > 0 && st.Revision > 0 && st.Revision <= s.revision(), "snapshot status at revision %d: %s", rev, stdout)
	s.note = strings.TrimSpace(stdout)
}

// snapshotRestoreRow starts a real etcd on the snapshot: the way out for who wants to leave.
func snapshotRestoreRow(s *script) {
	file, _ := s.save()
	if len(s.errs) > 0 {
		return
	}
	etcdutl, err := tool(s.ctx, "etcdutl")
	s.must(err)
	server, err := tool(s.ctx, "server")
	s.must(err)
	if err != nil || len(s.errs) > 0 {
		return
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", s.basePort+90), fmt.Sprintf("http://127.0.0.1:%d", s.basePort+91)
	dir := filepath.Join(s.dir, s.name+"-restored")
	_, stderr, err := output(s.ctx, "", etcdutl, "snapshot", "restore", file, "--data-dir", dir, "--name", "restored",
		"--initial-cluster", "restored="+peer, "--initial-advertise-peer-urls", peer)
	if err != nil {
		s.fail("etcdutl snapshot restore: %w: %s", err, stderr)
		return
	}
	p, err := start(server, "--name", "restored", "--data-dir", dir, "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "restored="+peer, "--log-level", "error")
	if err != nil {
		s.must(err)
		return
	}
	defer p.kill()
	address := strings.TrimPrefix(client, "http://")
	if err := answers(s.ctx, address, commandTimeMax); err != nil {
		s.fail("real etcd on the snapshot: %w: %s", err, p.errors())
		return
	}
	stdout, stderr, err := output(s.ctx, "", s.path, "--endpoints", address, "get", s.key+"in the snapshot", "--print-value-only")
	s.check(err == nil && stdout == "yes\n", "get from the restored etcd: %v: %q %s", err, stdout, stderr)
}

// endpointStatus is what `endpoint status -w json` prints.
type endpointStatus struct {
	Endpoint string
	Status   pb.StatusResponse
}

func (s *script) status() []endpointStatus {
	var st []endpointStatus
	s.json(&st, "endpoint", "status")
	return st
}

func endpointStatusRow(s *script) {
	st := s.status()
	s.check(len(st) == len(s.endpoints), "%d of %d endpoints", len(st), len(s.endpoints))
	members := map[uint64]bool{}
	for _, e := range st {
		members[e.Status.Header.GetMemberId()] = true
		s.check(strings.Count(e.Status.Version, ".") >= 2, "%s: version %q", e.Endpoint, e.Status.Version)
		s.check(e.Status.DbSize > 0 && e.Status.RaftIndex > 0 && e.Status.RaftTerm > 0 && len(e.Status.Errors) == 0, "%s: %v", e.Endpoint, &e.Status)
		s.check(e.Status.Leader == st[0].Status.Leader && e.Status.Header.ClusterId == st[0].Status.Header.ClusterId, "%s says leader %x of %x, %s says %x of %x",
			e.Endpoint, e.Status.Leader, e.Status.Header.ClusterId, st[0].Endpoint, st[0].Status.Leader, st[0].Status.Header.ClusterId)
	}
	s.check(len(members) == len(s.endpoints), "%d endpoints are %d members", len(s.endpoints), len(members))
	s.check(len(st) > 0 && members[st[0].Status.Leader], "the leader is none of the endpoints")
	var cluster []endpointStatus
	s.json(&cluster, "endpoint", "status", "--cluster")
	s.check(len(cluster) >= len(s.endpoints), "--cluster, by the member list's addresses: %d endpoints", len(cluster))
	table := s.run("endpoint", "status", "-w", "table")
	for _, e := range s.endpoints {
		s.check(strings.Contains(table, e), "-w table without %s: %s", e, table)
	}
}

func endpointHealthRow(s *script) {
	// 3.4 tells it on standard error.
	stdout, stderr, err := output(s.ctx, "", s.argv("endpoint", "health")...)
	s.must(err)
	for _, e := range s.endpoints {
		s.check(strings.Contains(stdout+stderr, e+" is healthy: successfully committed proposal"), "health of %s: %q", e, stdout+stderr)
	}
	var hs []struct {
		Endpoint string
		Health   bool
	}
	s.json(&hs, "endpoint", "health")
	s.check(len(hs) == len(s.endpoints), "health -w json: %v", hs)
	for _, h := range hs {
		s.check(h.Health, "%s is not healthy", h.Endpoint)
	}
}

func endpointHashKVRow(s *script) {
	for i := range 5 {
		s.run("put", s.key+fmt.Sprint(i), "x")
	}
	s.run("del", s.key+"1")
	rev := s.revision()
	type hash struct {
		Endpoint string
		HashKV   pb.HashKVResponse
	}
	hashes := func(rev int64) []hash {
		var hs []hash
		s.json(&hs, "endpoint", "hashkv", "--rev", fmt.Sprint(rev))
		s.check(len(hs) == len(s.endpoints), "hashkv of %d endpoints", len(hs))
		for _, h := range hs {
			s.check(h.HashKV.Hash != 0 && h.HashKV.Hash == hs[0].HashKV.Hash && h.HashKV.CompactRevision == hs[0].HashKV.CompactRevision,
				"at revision %d %s has hash %d compacted at %d, %s has %d compacted at %d", rev,
				h.Endpoint, h.HashKV.Hash, h.HashKV.CompactRevision, hs[0].Endpoint, hs[0].HashKV.Hash, hs[0].HashKV.CompactRevision)
		}
		return hs
	}
	now, before := hashes(rev), hashes(rev-1)
	if len(now) > 0 && len(before) > 0 {
		s.check(now[0].HashKV.Hash != before[0].HashKV.Hash, "the delete does not change the hash")
		s.check(hashes(rev)[0].HashKV.Hash == now[0].HashKV.Hash, "the hash at a revision changes")
	}
	s.refused("etcdserver: mvcc: required revision is a future revision", "endpoint", "hashkv", "--rev", fmt.Sprint(rev+1000))
}

func memberListRow(s *script) {
	var r pb.MemberListResponse
	s.json(&r, "member", "list")
	s.check(len(r.Members) >= len(s.endpoints), "%d members", len(r.Members))
	plain := strings.Split(s.run("member", "list"), "\n")
	s.check(len(plain) == len(r.Members), "%d lines for %d members", len(plain), len(r.Members))
	for _, m := range r.Members {
		s.check(m.ID != 0 && m.Name != "" && len(m.ClientURLs) > 0 && len(m.PeerURLs) > 0 && !m.IsLearner, "member %v", m)
		s.check(strings.Contains(strings.Join(plain, "\n"), fmt.Sprintf("%x, started, %s, ", m.ID, m.Name)), "member %x is not among %q", m.ID, plain)
	}
	for _, e := range s.endpoints {
		s.check(strings.Contains(fmt.Sprint(r.Members), e), "no member has the address %s, by which it is reached: %v", e, r.Members)
	}
}

func moveLeaderRow(s *script) {
	st := s.status()
	var target, leader uint64
	for _, e := range st {
		leader = e.Status.Leader
		if id := e.Status.Header.GetMemberId(); id != leader {
			target = id
		}
	}
	if target == 0 {
		s.fail("nobody to move the leader to: %v", st)
		return
	}
	s.want(lines(fmt.Sprintf("Leadership transferred from %x to %x", leader, target)), "move-leader", strconv.FormatUint(target, 16))
	for s.ctx.Err() == nil {
		if st = s.status(); len(st) > 0 && st[0].Status.Leader == target {
			break
		}
	}
	s.must(s.ctx.Err())
	s.refused("etcdserver: bad leader transferee", "move-leader", "123456")
	s.run("put", s.key+"a", "1")
}

func alarmRow(s *script) {
	s.want(lines(""), "alarm", "list")
	s.want(lines(""), "alarm", "disarm")
}

func defragRow(s *script) {
	before := s.revision()
	got := s.run("defrag")
	for _, e := range s.endpoints {
		s.check(strings.Contains(got, "Finished defragmenting etcd member["+e+"]"), "defrag of %s: %q", e, got)
	}
	s.check(s.revision() == before, "defrag changed the revision")
}

func authOffRow(s *script) {
	if !s.old {
		got := s.run("auth", "status")
		s.check(strings.HasPrefix(got, "Authentication Status: false\n"), "auth status: %q", got)
	}
	s.want(lines(""), "user", "list")
	s.want(lines(""), "role", "list")
	s.refused("etcdserver: user name not found", "user", "get", "nobody")
	s.refused("etcdserver: role name not found", "role", "get", "nothing")
	// Clients that bring a name although nobody asks for one are served.
	s.run("put", s.key+"a", "1", "--user", "root:secret")
	s.want(lines(s.key+"a", "1"), "get", s.key+"a", "--user", "root:secret")
}

// checkPerfRow looks at what went wrong, not at how fast it was; that stands in the note.
func checkPerfRow(s *script) {
	args := lines("check", "perf", "--load", "s", "--prefix", s.key)
	if !s.old {
		args = append(args, "--auto-compact", "--auto-defrag")
	}
	ctx, cancel := context.WithTimeout(s.ctx, 100*time.Second)
	defer cancel()
	stdout, stderr, err := outputFor(ctx, "", s.argv(args...)...)
	stdout = stdout[strings.LastIndexByte(stdout, '\r')+1:] // after the progress bar
	if i := strings.IndexAny(stdout, "PF"); i > 0 {
		stdout = stdout[i:]
	}
	s.note = strings.ReplaceAll(strings.TrimSpace(stdout), "\n", "; ")
	complete := strings.Contains(stdout, "Throughput") && strings.Contains(strings.ToLower(stdout), "stddev")
	s.check(complete && !strings.Contains(stdout, "ERROR("), "check perf: %v: %s %s", err, s.note, strings.TrimSpace(stderr))
	s.want(lines(""), "get", s.key, "--prefix", "--keys-only")
}
