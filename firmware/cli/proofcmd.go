package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// kvGetFlags is `kv get`, with and without a proof.
func kvGetFlags(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	proof := f.Bool("proof", false, "print the value signed by a quorum of the site's boxes, as JSON")
	trusted := f.String("site", "", "with --proof: the site.json that you trust, a `file`; default: what the box says")
	plain := kvVerb(1, kvGet)(f)
	return func(ctx context.Context, s *streams, args []string) error {
		switch {
		case !*proof && *trusted != "":
			return fmt.Errorf("%w: --site is for --proof", errUsage)
		case !*proof:
			return plain(ctx, s, args)
		}
		if len(args) != 1 || args[0] == "" {
			return fmt.Errorf("%w: one key is needed", errUsage)
		}
		timeout, err := time.ParseDuration(f.Lookup("timeout").Value.String())
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return ask(f.Lookup("addr").Value.String(), func(b *remote.Box) error { return getProof(ctx, b, s.out, args[0], *trusted) })
	}
}

// nonceBytes is the size of the nonces made here: too many to be guessed or to come twice.
const nonceBytes = 16

func getProof(ctx context.Context, b *remote.Box, out io.Writer, key, trusted string) error {
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails
	p, err := b.Proof(ctx, key, nonce)
	if err != nil {
		return err
	}
	var members *coord.Members
	if trusted != "" {
		if members, err = trust.LoadMembersFile(trusted); err != nil {
			return err
		}
	} else {
		m, err := b.Members(ctx)
		if err != nil {
			return err
		}
		members = &coord.Members{Site: m.Site, Epoch: m.Epoch}
		for i := range m.Members {
			members.List = append(members.List, m.Members[i].Member)
		}
	}
	if err := checkProof(p, members); err != nil {
		return err
	}
	if !bytes.Equal(p.Reading.Nonce, nonce) || string(p.Reading.Key) != key {
		return fmt.Errorf("%w: it answers another question", coord.ErrProof)
	}
	return printJSON(out, p)
}

func checkProof(p *coord.ReadProof, members *coord.Members) error {
	v, err := trust.NewVerifier(members)
	if err != nil {
		return err
	}
	return v.VerifyReadProof(p)
}

func verifyProof(in io.Reader, out io.Writer, file, trusted string, asJSON bool) error {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	p, err := coord.ReadReadProof(in)
	if err != nil {
		return err
	}
	members, err := trust.LoadMembersFile(trusted)
	if err != nil {
		return err
	}
	if err := checkProof(p, members); err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, p)
	}
	r := &p.Reading
	if !r.Found {
		_, err = fmt.Fprintf(out, "%q was not there at revision %d (height %d, nonce %x), say %d of %d boxes\n", r.Key, r.Revision, r.Height, r.Nonce, len(p.Sigs), members.N())
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n%q has this value at revision %d (put at %d, height %d, nonce %x), say %d of %d boxes\n",
		r.Value, r.Key, r.Revision, r.ModRevision, r.Height, r.Nonce, len(p.Sigs), members.N())
	return err
}
