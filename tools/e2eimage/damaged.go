package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
)

// The superblock of ext4 is 1 KiB from the beginning of its partition (Documentation/filesystems/ext4/super.rst in Linux); what is
// overwritten of it is below its checksum.
const (
	superblock = 1024
	pageMax    = 64 << 10
)

var setupCode = regexp.MustCompile(`\*\*\* Console: .* \(setup code ([A-Z2-7-]+)\)`)

// damaged spoils the superblock of machine 0's data while its power is off. The machine must say so on the emergency console, stay there
// when it is told to try again, and be a box of the site again once the data is as it was.
func (r *runner) damaged(ctx context.Context) (string, error) {
	v := r.vms[0]
	if err := v.cut(r.rand); err != nil {
		return "", err
	}
	table, err := gpt.Read(v.disk.file, v.disk.size)
	if err != nil {
		return "", err
	}
	data := table.Partitions[len(table.Partitions)-1]
	good := make([]byte, sector)
	if _, err := v.disk.file.ReadAt(good, data.Offset()+superblock); err != nil {
		return "", err
	}
	if _, err := v.disk.file.WriteAt(make([]byte, sector), data.Offset()+superblock); err != nil {
		return "", err
	}
	before, began, starts := len(v.console()), time.Now(), v.kernels()
	if err := v.start(); err != nil {
		return "", err
	}
	page, err := v.emergency(ctx)
	if err != nil {
		return "", err
	}
	shown := time.Since(began)
	found := setupCode.FindStringSubmatch(v.console()[before:])
	if found == nil {
		return "", errors.New("the serial console has no setup code")
	}
	if err := v.choose(ctx, found[1], "retry"); err != nil {
		return "", err
	}
	if _, err := v.emergency(ctx); err != nil {
		return "", fmt.Errorf("after another try: %w", err)
	}
	if n := v.kernels() - starts; n != 1 {
		return "", fmt.Errorf("the machine started %d times", n)
	}
	if _, err := v.disk.file.WriteAt(good, data.Offset()+superblock); err != nil {
		return "", err
	}
	// It has a code of this start, until it is off.
	if err := v.choose(ctx, found[1], "reboot"); err != nil {
		return "", err
	}
	if err := r.readBack(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("emergency console after %v (%s); the data repaired and started again: it serves", shown.Round(time.Second), page), nil
}

// web is a client of consoles whose certificates are made when they start.
func web() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}}
}

// emergency waits for the machine's emergency console and gives the reason on it.
func (v *vm) emergency(ctx context.Context) (reason string, err error) {
	return reason, until(ctx, bootMax, func() error {
		resp, err := web().Get("https://" + v.address + ":8080/healthz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, pageMax))
		if reason = strings.TrimSpace(string(b)); err == nil && (resp.StatusCode != http.StatusServiceUnavailable || reason == "") {
			err = fmt.Errorf("%s: %s", resp.Status, reason)
		}
		return err
	})
}

// choose sends a choice of the emergency console, again while it is busy.
func (v *vm) choose(ctx context.Context, code, what string) error {
	return until(ctx, joinMax, func() error {
		resp, err := web().PostForm("https://"+v.address+":8080/act", url.Values{"code": {code}, "act": {what}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, pageMax))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, b)
		}
		return err
	})
}
