package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"
)

func etcdNode(args []string) error {
	etcdmain.Main(append(os.Args[:1:1], args...)) // ends the process itself
	return nil
}

func etcdOf(n int) func(context.Context, *options, string) (*load.Target, func(), error) {
	return func(ctx context.Context, _ *options, dir string) (*load.Target, func(), error) {
		ports, err := freePorts(2 * n)
		if err != nil {
			return nil, nil, err
		}
		var all, clients []string
		for i := range n {
			all = append(all, fmt.Sprintf("n%d=http://%s", i, local(ports[n+i])))
			clients = append(clients, local(ports[i]))
		}
		c := &cluster{dir: dir}
		for i := range n {
			peer := "http://" + local(ports[n+i])
			if err := c.spawn(n, "etcd", "--name", fmt.Sprintf("n%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
				"--listen-client-urls", "http://"+clients[i], "--advertise-client-urls", "http://"+clients[i],
				"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(all, ","), "--log-level", "error"); err != nil {
				c.stop()
				return nil, nil, err
			}
		}
		if err := etcdReady(ctx, clients); err != nil {
			c.stop()
			return nil, nil, fmt.Errorf("%w\n%s", err, c.logs())
		}
		return &load.Target{PIDs: c.pids(), Open: etcdOpen(clients)}, c.stop, nil
	}
}

// etcdReady waits until every endpoint takes a write.
func etcdReady(ctx context.Context, endpoints []string) error {
	open := etcdOpen(endpoints)
	for i := range endpoints {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			c, err := open(ctx, "put", i)
			if err == nil {
				try, cancel := context.WithTimeout(ctx, 2*time.Second)
				err = c.Do(try, [][]byte{[]byte("ready")}, [][]byte{nil})
				cancel()
				_ = c.Close()
			}
			if err == nil {
				break
			}
			if time.Now().After(end) || ctx.Err() != nil {
				return fmt.Errorf("%s does not serve: %w", endpoints[i], err)
			}
		}
	}
	return nil
}

type etcdClient struct{ c *clientv3.Client }

func etcdOpen(endpoints []string) func(context.Context, string, int) (load.Client, error) {
	return func(ctx context.Context, op string, i int) (load.Client, error) {
		if op == "watch" {
			return load.OpenWatch(ctx, endpoints[i%len(endpoints)])
		}
		if op != "put" {
			return nil, fmt.Errorf("no operation %q", op)
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoints[i%len(endpoints)]}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
		if err != nil {
			return nil, err
		}
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := c.Get(try, "warm"); err != nil { // connected
			_ = c.Close()
			return nil, err
		}
		return &etcdClient{c}, nil
	}
}

func (e *etcdClient) Do(ctx context.Context, keys, values [][]byte) error {
	_, err := e.c.Put(ctx, string(keys[0]), string(values[0]))
	return err
}

func (e *etcdClient) Close() error { return e.c.Close() }
