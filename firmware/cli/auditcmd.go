package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func auditCommand(b Build) command {
	return command{
		name: "audit", about: "what was done and refused on a box, and proof of it",
		more: `
Each box records what operators, programs and boxes did that changes the site, and what was refused. Once a minute it has the site sign
how long its log is and what is in it. After that nobody can change a record unseen, the box itself included.
Archives leave a box by its socket only: run export on the box.

Examples:
  holdfast audit list --last 20
  holdfast audit list --since 24h --outcome denied
  holdfast audit export --format ocsf --out audit.jsonl
  holdfast audit verify --site /etc/holdfast/site.json
  holdfast audit prove 17 --out record.json
  holdfast audit check record.json --site site.json     (anywhere, without a box)
`,
		sub: []command{auditListCommand(), auditExportCommand(b), auditVerifyCommand(), auditHeadsCommand(), auditProveCommand(), auditCheckCommand()},
	}
}

// choosing declares the flags that choose entries, and gives what makes a query of them.
func choosing(f *flag.FlagSet) func() (url.Values, error) {
	since := f.String("since", "", "only from then on: a `time` such as 2026-11-23T15:04:05Z, or as long ago as 24h")
	until := f.String("until", "", "only before then: a `time`, as --since")
	principal := f.String("principal", "", "only what `who` did, such as operator:ann")
	action := f.String("action", "", "only this `action`, such as kv.compact; all of an area: kv.")
	resource := f.String("resource", "", "only what begins with `this`")
	outcome := f.String("outcome", "", "only `allowed, denied or failed`")
	request := f.String("request", "", "only the request with this `id`")
	return func() (url.Values, error) {
		q := url.Values{}
		for name, v := range map[string]string{"principal": *principal, "action": *action, "resource": *resource, "outcome": *outcome, "request": *request} {
			if v != "" {
				q.Set(name, v)
			}
		}
		for name, v := range map[string]string{"from_ms": *since, "to_ms": *until} {
			if v == "" {
				continue
			}
			t, err := moment(v, time.Now())
			if err != nil {
				return nil, err
			}
			q.Set(name, strconv.FormatInt(t.UnixMilli(), 10))
		}
		return q, nil
	}
}

// moment reads a time, or how long ago it is.
func moment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%w: %q is no time; write 24h or 2026-11-23T15:04:05Z", errUsage, s)
	}
	return t, nil
}

func auditListCommand() command {
	return command{
		name: "list", about: "print records, oldest first",
		more: `
Examples:
  holdfast audit list --last 20
  holdfast audit list --since 24h --outcome denied --addr unix:///var/lib/holdfast/holdfast.sock
  holdfast audit list --action kv. --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			last := f.Int("last", 100, "the newest `so many` that the other flags choose; 0: all")
			query := choosing(f)
			return func(ctx context.Context, s *streams, args []string) error {
				q, err := query()
				if err = cmp.Or(noArgs(args), err); err != nil {
					return err
				}
				if *last < 0 {
					return fmt.Errorf("%w: --last %d", errUsage, *last)
				}
				q.Set("last", strconv.Itoa(*last))
				return ask(*addr, func(b *remote.Box) error {
					if *asJSON {
						return b.Raw(ctx, "/api/v1/audit?"+q.Encode(), s.out)
					}
					t := table(s.out)
					fmt.Fprintln(t, "INDEX\tTIME\tWHO\tACTION\tON\tOUTCOME\tWHY\tFROM")
					err := b.Audit(ctx, q, func(e *audit.Entry) error {
						_, err := fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%v\t%s\t%s\n", e.Index, time.UnixMilli(e.TimeMs).UTC().Format(time.RFC3339),
							plain(cmp.Or(e.Principal, "-")), plain(e.Action), plain(e.Resource), e.Outcome, plain(because(&e.Record)), plain(e.Source))
						return err
					})
					if errors.Is(err, remote.ErrRefused) || errors.Is(err, remote.ErrUnreachable) {
						return err // and no head of a table
					}
					return errors.Join(err, t.Flush())
				})
			}
		},
	}
}

// because is why an action had its outcome.
func because(r *audit.Record) string {
	if r.Policy != "" && strings.HasPrefix(r.Reason, r.Policy) {
		return r.Reason // which names it already
	}
	return strings.Join(strings.Fields(r.Policy+" "+r.Reason), " ")
}

// plain makes text from outside safe for a terminal.
func plain(s string) string {
	if q := strconv.QuoteToGraphic(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func auditExportCommand(build Build) command {
	return command{
		name: "export", about: "write records for other systems",
		more: `
Formats: json (a record a line), ocsf (a line each, of API Activity or Authentication), cef (ArcSight's), archive (all
records that are there, in a form that stays provable: see audit verify). The box drops its oldest records when it has no room: export
before. With --mark the box notes that an archive is safe elsewhere, and drops marked records first: move the file off the box
before it is needed.

Examples:
  holdfast audit export --format ocsf --since 24h --out audit.jsonl
  holdfast audit export --format archive --mark --out october.jsonl
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr := f.String("addr", "", "`address` of the box's console")
			format := f.String("format", "json", "`json, ocsf, cef or archive`")
			out := f.String("out", "", "write to this `file`, not to standard output")
			mark := f.Bool("mark", false, "note on the box that what the archive has is safe elsewhere")
			query := choosing(f)
			return func(ctx context.Context, s *streams, args []string) error {
				q, err := query()
				if err = cmp.Or(noArgs(args), err); err != nil {
					return err
				}
				if *mark && (*format != "archive" || *out == "") {
					return fmt.Errorf("%w: --mark is for --format archive with --out: only that stays provable", errUsage)
				}
				if *format == "archive" {
					return ask(*addr, func(b *remote.Box) error {
						err := writeTo(s.out, *out, func(w io.Writer) error { return b.Raw(ctx, "/api/v1/audit/log", w) })
						if err != nil || !*mark {
							return err
						}
						return markExported(ctx, s, b, *out)
					})
				}
				line := map[string]func(b []byte, e *audit.Entry) []byte{
					"json": func(b []byte, e *audit.Entry) []byte { j, _ := json.Marshal(e); return append(b, j...) }, // of plain fields: it never fails
					"ocsf": func(b []byte, e *audit.Entry) []byte { return audit.AppendOCSF(b, e, build.Version) },
					"cef":  func(b []byte, e *audit.Entry) []byte { return audit.AppendCEF(b, e, build.Version) },
				}[*format]
				if line == nil {
					return fmt.Errorf("%w: --format %s; it is json, ocsf, cef or archive", errUsage, *format)
				}
				return ask(*addr, func(b *remote.Box) error {
					return writeTo(s.out, *out, func(w io.Writer) error {
						n := 0
						var text []byte
						err := b.Audit(ctx, q, func(e *audit.Entry) error {
							n++
							text = append(bytes.TrimSuffix(line(text[:0], e), []byte("\n")), '\n')
							_, err := w.Write(text)
							return err
						})
						if err == nil && *out != "" {
							_, err = fmt.Fprintf(s.err, "wrote %s: %d records\n", *out, n)
						}
						return err
					})
				})
			}
		},
	}
}

// markExported reads an archive back and has the box mark what is in it.
func markExported(ctx context.Context, s *streams, b *remote.Box, name string) error {
	l, err := archives([]string{name})
	if err != nil {
		return err
	}
	end := l.First + int64(len(l.Records))
	if err := b.Post(ctx, "/api/v1/audit/exported", map[string]string{"to": strconv.FormatInt(end, 10)}, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.err, "wrote %s: records %d to %d, marked as exported\n", name, l.First, end-1)
	return err
}

// writeTo gives fn a file, which is there whole or not at all, or standard output where name is empty.
func writeTo(out io.Writer, name string, fn func(io.Writer) error) error {
	if name == "" {
		w := bufio.NewWriter(out)
		return errors.Join(fn(w), w.Flush())
	}
	part := name + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	err = fn(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, name)
}

func auditVerifyCommand() command {
	return command{
		name: "verify", args: "[ARCHIVE...]", about: "find records that were edited, dropped, inserted or moved",
		more: `
The log is compared with the heads that the site signed. A thief of the box may have taken heads away, too: give those that another box
has (holdfast audit heads --box ID, run there) with --heads.
The exit code is 1 when something is wrong.

Examples:
  holdfast audit verify --site /etc/holdfast/site.json --heads heads-from-box-1.jsonl
  holdfast audit verify --site site.json --heads heads.jsonl october.jsonl november.jsonl     (archives, without a box)
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			members := trusting(f)
			headFile := f.String("heads", "", "also the signed heads in this `file`")
			return func(ctx context.Context, s *streams, args []string) error {
				sets, err := members()
				if err != nil {
					return err
				}
				var l *audit.Log
				var heads []audit.SignedHead
				if len(args) > 0 {
					l, err = archives(args)
				} else {
					err = ask(*addr, func(b *remote.Box) (err error) {
						// The heads first: one that is signed meanwhile would cover records that were read before.
						if heads, err = b.AuditHeads(ctx, coord.BoxID{}); err == nil {
							l, err = b.AuditLog(ctx)
						}
						return err
					})
				}
				if err != nil {
					return err
				}
				if *headFile != "" {
					more, err := fromFile(*headFile, api.ReadAuditHeads)
					if err != nil {
						return err
					}
					heads = append(heads, more...)
				}
				return verifyAudit(s, l, heads, sets, *asJSON)
			}
		},
	}
}

// archives reads archives of one log, in order.
func archives(names []string) (l *audit.Log, err error) {
	for _, name := range names {
		next, err := fromFile(name, func(r io.Reader) (*audit.Log, error) { return audit.ReadArchive(r, api.AuditLogMax) })
		if err != nil {
			return nil, err
		}
		if l == nil {
			l = next
		} else if err := l.Join(next); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return l, nil
}

func fromFile[T any](name string, read func(io.Reader) (T, error)) (T, error) {
	file, err := os.Open(name)
	if err != nil {
		var none T
		return none, err
	}
	v, err := read(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

func verifyAudit(s *streams, l *audit.Log, signed []audit.SignedHead, sets memberSets, asJSON bool) error {
	var heads []audit.Head
	unsigned := 0
	for i := range signed {
		h := &signed[i]
		if h.Box != l.Box {
			continue
		}
		m, err := sets.of(h.Site, h.Epoch)
		if err == nil {
			err = h.Check(m.Members, m.VerifyReading)
		}
		if err != nil {
			unsigned++
			fmt.Fprintf(s.err, "a head of %d records is not used: %v\n", h.Size, err)
			continue
		}
		heads = append(heads, h.Head)
	}
	r := audit.Verify(l, heads)
	if asJSON {
		if err := printJSON(s.out, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.out, "box %v: records %d to %d; %d heads compared, the newest covers %d\n", r.Box, r.First, r.Size-1, r.Heads, r.Signed)
		for i := range r.Faults {
			fmt.Fprintf(s.out, "WRONG: %v\n", &r.Faults[i])
		}
		if r.More > 0 {
			fmt.Fprintf(s.out, "WRONG: and %d more\n", r.More)
		}
		if r.Unsigned > 0 {
			fmt.Fprintf(s.out, "%d records are newer than the newest head: nothing protects them yet\n", r.Unsigned)
		}
	}
	switch {
	case !r.OK():
		return fmt.Errorf("the audit log of box %v is not what the site signed", r.Box)
	case len(heads) == 0 && r.Size > 0:
		return fmt.Errorf("no head is signed by the members in --site: nothing is proved (%d were not)", unsigned)
	case r.Size < r.Signed:
		return fmt.Errorf("the site signed %d records and %d are there", r.Signed, r.Size)
	}
	if !asJSON {
		fmt.Fprintln(s.out, "everything that is signed is as it was")
	}
	return nil
}

func auditHeadsCommand() command {
	return command{
		name: "heads", about: "print the signed heads of a box's audit log that this box has",
		more: `
Keep them away from the box that they are of: with them its log can be verified when it was stolen and given back.

Example:
  holdfast audit heads --box 0123456789abcdef --out heads.jsonl
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr := f.String("addr", "", "`address` of the box's console")
			of := f.String("box", "", "whose log: the `id` of a box; default: of the box that is asked")
			out := f.String("out", "", "write to this `file`, not to standard output")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				var id coord.BoxID
				if *of != "" {
					if err := id.UnmarshalText([]byte(*of)); err != nil {
						return fmt.Errorf("%w: --box: %w", errUsage, err)
					}
				}
				return ask(*addr, func(b *remote.Box) error {
					heads, err := b.AuditHeads(ctx, id)
					if err != nil {
						return err
					}
					return writeTo(s.out, *out, func(w io.Writer) error {
						e := json.NewEncoder(w)
						for i := range heads {
							if err := e.Encode(&heads[i]); err != nil {
								return err
							}
						}
						if *out != "" {
							fmt.Fprintf(s.err, "wrote %s: %d heads\n", *out, len(heads))
						}
						return nil
					})
				})
			}
		},
	}
}

func auditProveCommand() command {
	return command{
		name: "prove", args: "INDEX", about: "write the proof that a record is in the log that the site signed",
		more: `
Example:
  holdfast audit prove 17 --out record.json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr := f.String("addr", "", "`address` of the box's console")
			out := f.String("out", "", "write to this `file`, not to standard output")
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: %d arguments where an index is needed", errUsage, len(args))
				}
				i, err := strconv.ParseInt(args[0], 10, 64)
				if err != nil || i < 0 {
					return fmt.Errorf("%w: %q is no index; `holdfast audit list` shows them", errUsage, args[0])
				}
				return ask(*addr, func(b *remote.Box) error {
					p, err := b.AuditProof(ctx, i)
					if err != nil {
						return err
					}
					return writeTo(s.out, *out, func(w io.Writer) error { return printJSON(w, p) })
				})
			}
		},
	}
}

func auditCheckCommand() command {
	return command{
		name: "check", args: "FILE", about: "check a proof by itself, without a box",
		more: `
Example:
  holdfast audit check record.json --site site.json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			members := trusting(f)
			asJSON := f.Bool("json", false, "print JSON")
			return func(_ context.Context, s *streams, args []string) error {
				if len(args) != 1 {
					return fmt.Errorf("%w: %d arguments where a file is needed", errUsage, len(args))
				}
				sets, err := members()
				if err != nil {
					return err
				}
				p, err := fromFile(args[0], audit.ReadProof)
				if err != nil {
					return err
				}
				m, err := sets.of(p.Head.Site, p.Head.Epoch)
				if err == nil {
					err = p.Check(m.Members, m.VerifyReading)
				}
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, p)
				}
				r := &p.Record
				_, err = fmt.Fprintf(s.out, "PROVEN: record %d of box %v: %s by %s on %s, %v (%s), at %s by the box's clock; signed by %d of %d boxes at height %d\n",
					p.Index, p.Box, plain(r.Action), plain(cmp.Or(r.Principal, "somebody unknown")), plain(cmp.Or(r.Resource, "-")), r.Outcome, plain(because(r)),
					time.UnixMilli(r.TimeMs).UTC().Format(time.RFC3339), len(p.Head.Sigs), m.N(), p.Head.Height)
				return err
			}
		},
	}
}
