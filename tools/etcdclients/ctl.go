package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// ctl is an etcdctl.
type ctl struct {
	*env
	name, path string
	old        bool // 3.4
}

// script is a row of etcdctl calls. What goes wrong is collected, so that one run shows all differences.
type script struct {
	*ctl
	ctx  context.Context
	key  string // below which this row's keys are
	errs []error
	note string
}

func (s *script) argv(args ...string) []string {
	return append([]string{s.path, "--endpoints", strings.Join(s.endpoints, ",")}, args...)
}

func (s *script) fail(format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf(format, args...))
}

func (s *script) check(ok bool, format string, args ...any) {
	if !ok {
		s.fail(format, args...)
	}
}

func (s *script) must(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// in runs etcdctl with a standard input and gives its output without the last line end.
func (s *script) in(stdin string, args ...string) string {
	stdout, stderr, err := output(s.ctx, stdin, s.argv(args...)...)
	if err != nil {
		s.fail("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr))
	}
	return strings.TrimSuffix(stdout, "\n")
}

func (s *script) run(args ...string) string { return s.in("", args...) }

// want runs etcdctl and compares its lines with those given, which stand before the arguments.
func (s *script) want(lines []string, args ...string) {
	failed := len(s.errs)
	if got, want := s.run(args...), strings.Join(lines, "\n"); got != want && len(s.errs) == failed {
		s.fail("%s: printed %q, want %q", strings.Join(args, " "), got, want)
	}
}

// refused runs etcdctl, which has to fail with a text.
func (s *script) refused(text string, args ...string) { s.inRefused("", text, args...) }

func (s *script) inRefused(stdin, text string, args ...string) {
	stdout, stderr, err := output(s.ctx, stdin, s.argv(args...)...)
	if all := stdout + stderr; err == nil || !strings.Contains(all, text) {
		s.fail("%s: err %v and %q, want a failure with %q", strings.Join(args, " "), err, strings.TrimSpace(all), text)
	}
}

func (s *script) json(v any, args ...string) {
	if out := s.run(append(args, "-w", "json")...); out != "" {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			s.fail("%s -w json: %w in %q", strings.Join(args, " "), err, out)
		}
	}
}

// get reads keys as JSON.
func (s *script) get(args ...string) *pb.RangeResponse {
	r := pb.RangeResponse{Header: &pb.ResponseHeader{}}
	s.json(&r, append([]string{"get"}, args...)...)
	return &r
}

// start runs etcdctl in the background.
func (s *script) start(args ...string) *proc {
	p, err := start(s.argv(args...)...)
	s.must(err)
	return p
}

// revision is the store's now.
func (s *script) revision() int64 { return s.get("nothing").Header.Revision }

func ctlSuite(ctx context.Context, e *env, r *report, name string) {
	c := &ctl{env: e, name: name, old: name == "ctl3.4"}
	if !r.list {
		var err error
		if c.path = "/usr/bin/etcdctl"; !c.old {
			c.path, err = tool(ctx, "etcdctl")
		}
		version := ""
		if err == nil {
			version, _, err = output(ctx, "", c.path, "version")
		}
		if want := "etcdctl version: " + strings.TrimPrefix(name, "ctl") + "."; err != nil || !strings.HasPrefix(version, want) {
			r.step(ctx, name+"/version", func(context.Context) (string, error) {
				return "", fmt.Errorf("%s is not %q (Debian's package is etcd-client): %q %v", c.path, want, version, err)
			})
			return
		}
	}
	for _, row := range []struct {
		name string
		run  func(*script)
	}{
		{"put", putRow},
		{"get", getRow},
		{"del", delRow},
		{"txn", txnRow},
		{"watch", watchRow},
		{"watch-interactive", watchInteractiveRow},
		{"watch-command", watchCommandRow},
		{"lease", leaseRow},
		{"lease-keepalive", leaseKeepAliveRow},
		{"lock", lockRow},
		{"lock-command", lockCommandRow},
		{"elect", electRow},
		{"compaction", compactionRow},
		{"snapshot", snapshotRow},
		{"snapshot-status", snapshotStatusRow},
		{"snapshot-restore", snapshotRestoreRow},
		{"endpoint-status", endpointStatusRow},
		{"endpoint-health", endpointHealthRow},
		{"endpoint-hashkv", endpointHashKVRow},
		{"member-list", memberListRow},
		{"move-leader", moveLeaderRow},
		{"alarm", alarmRow},
		{"defrag", defragRow},
		{"auth-off", authOffRow},
		{"check-perf", checkPerfRow},
	} {
		r.row(ctx, name+"/"+row.name, func(ctx context.Context) (string, error) {
			s := &script{ctl: c, ctx: ctx, key: e.prefix + name + "/" + row.name + "/"}
			row.run(s)
			return s.note, errors.Join(s.errs...)
		})
	}
}
