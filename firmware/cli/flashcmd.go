package cli

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/flash"
)

func flashCommand() command {
	return command{
		name: "flash", args: "IMAGE DEVICE", about: "write a disk image to a card or a disk, and verify it",
		more: `
The image may be compressed (.img.zst). A disk that this machine has mounted, or that something is built upon, is refused, and so
is a partition. A compressed image is read to its end before anything is written. Everything on the device is lost: without --yes
it asks first. A file in place of a device is written as one.

Examples:
  holdfast flash holdfast.img.zst /dev/sdb
  holdfast flash --yes holdfast.img box.disk
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			yes := f.Bool("yes", false, "do not ask")
			asJSON := f.Bool("json", false, "print JSON")
			return func(ctx context.Context, s *streams, args []string) error {
				if len(args) != 2 {
					return fmt.Errorf("%w: name the image and the device", errUsage)
				}
				m, err := flash.Check(flash.Options{Image: args[0], Device: args[1]})
				if err != nil {
					return err
				}
				if m.Bytes > 0 && !*yes {
					if err := sure(s, args[1], m); err != nil {
						return err
					}
				}
				shown, tenth, terminal := "", int64(-1), isTerminal(s.err)
				r, err := flash.Write(ctx, flash.Options{Image: args[0], Device: args[1], Shown: &m, Progress: func(part string, done, total int64) {
					line := fmt.Sprintf("%s: %d MB", part, done/1e6)
					if total > 0 {
						line = fmt.Sprintf("%s: %d%% of %d MB", part, done*100/total, total/1e6)
					}
					if line != shown && (terminal || done == total || total > 0 && done*10/total != tenth) {
						if terminal {
							line = fmt.Sprintf("\r%-40s", line)
						} else {
							line += "\n" // a log gets a line for each tenth
						}
						_, _ = fmt.Fprint(s.err, line) // the work goes on without it
						shown, tenth = line, done*10/max(1, total)
					}
				}})
				if shown != "" && terminal {
					_, _ = fmt.Fprintln(s.err)
				}
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(s.out, r)
				}
				_, err = fmt.Fprintf(s.out, "%s has the image: %s written and read back, SHA-256 %s\n", args[1], megabytes(r.Bytes), r.SHA256)
				return err
			}
		},
	}
}

// sure asks whether a device may be overwritten.
func sure(s *streams, device string, m flash.Medium) error {
	name := m.Name
	switch {
	case !m.Device:
		name = "a file"
	case name == "":
		name = "a disk without a name"
	}
	if _, err := fmt.Fprintf(s.err, "Everything on %s (%s, %s) will be lost. Write the device's name to go on: ", device, name, megabytes(m.Bytes)); err != nil {
		return err
	}
	line, err := bufio.NewReader(s.in).ReadString('\n')
	if strings.TrimSpace(line) != device {
		if !strings.HasSuffix(line, "\n") {
			_, _ = fmt.Fprintln(s.err) // the error has a line of its own
		}
		return fmt.Errorf("nothing was written: %q is not %s; --yes does not ask", strings.TrimSpace(line), device)
	}
	if err != nil && line == "" {
		return err
	}
	return nil
}
