package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cmd "github.com/cometbft/cometbft/cmd/cometbft/commands"
	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/libs/cli"
	nm "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	rpc "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/cometbft/cometbft/types"
	"github.com/holdfast-edge/holdfast/tools/bench/load"
)

// cometNode runs a node whose home is made already.
func cometNode(args []string) error {
	if len(args) != 1 {
		return errors.New("node comet HOME")
	}
	root := cmd.RootCmd
	root.AddCommand(cmd.NewRunNodeCmd(nm.DefaultNewNode))
	root.SetArgs([]string{"start", "--home", args[0]})
	return cli.PrepareBaseCmd(root, "CMT", args[0]).Execute()
}

// startComet is four validators with the example key-value store on disk, tuned for latency: no waiting after a commit, gossip
// every 5 ms and not 100.
func startComet(ctx context.Context, _ *options, dir string) (*load.Target, func(), error) {
	const n = 4
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, nil, err
	}
	var (
		configs []*config.Config
		peers   string
		genesis = types.GenesisDoc{ChainID: "bench", GenesisTime: time.Now(), ConsensusParams: types.DefaultConsensusParams()}
	)
	for i := range n {
		c := config.DefaultConfig()
		c.SetRoot(filepath.Join(dir, fmt.Sprintf("node%d", i)))
		c.ProxyApp, c.LogLevel, c.Moniker = "persistent_kvstore", "error", fmt.Sprintf("node%d", i)
		c.RPC.ListenAddress, c.RPC.MaxOpenConnections = "tcp://"+local(ports[i]), 2000
		c.RPC.MaxSubscriptionClients, c.RPC.MaxSubscriptionsPerClient, c.RPC.TimeoutBroadcastTxCommit = 2000, 100, 30*time.Second
		c.P2P.ListenAddress, c.P2P.AllowDuplicateIP, c.P2P.AddrBookStrict, c.P2P.PexReactor = "tcp://"+local(ports[n+i]), true, false, false
		c.P2P.FlushThrottleTimeout = time.Millisecond
		c.Consensus.TimeoutCommit, c.Consensus.CreateEmptyBlocks = 0, false
		c.Consensus.PeerGossipSleepDuration, c.Consensus.PeerQueryMaj23SleepDuration = 5*time.Millisecond, 500*time.Millisecond
		c.Mempool.Size = 20_000
		c.TxIndex.Indexer = "null"
		for _, d := range []string{"config", "data"} {
			if err := os.MkdirAll(filepath.Join(c.RootDir, d), 0o755); err != nil {
				return nil, nil, err
			}
		}
		key, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile())
		if err != nil {
			return nil, nil, err
		}
		pv, err := privval.LoadOrGenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile(), func() (crypto.PrivKey, error) {
			return ed25519.GenPrivKey(), nil
		})
		if err != nil {
			return nil, nil, err
		}
		pub, err := pv.GetPubKey()
		if err != nil {
			return nil, nil, err
		}
		genesis.Validators = append(genesis.Validators, types.GenesisValidator{Address: pub.Address(), PubKey: pub, Power: 1, Name: c.Moniker})
		peers += fmt.Sprintf(",%s@%s", key.ID(), local(ports[n+i]))
		configs = append(configs, c)
	}
	cl := &cluster{dir: dir}
	for _, c := range configs {
		c.P2P.PersistentPeers = peers[1:]
		config.WriteConfigFile(filepath.Join(c.RootDir, "config", "config.toml"), c)
		if err := genesis.SaveAs(c.GenesisFile()); err != nil {
			return nil, nil, err
		}
		if err := cl.spawn(n, "comet", c.RootDir); err != nil {
			cl.stop()
			return nil, nil, err
		}
	}
	open := func(_ context.Context, op string, i int) (load.Client, error) {
		if op != "put" {
			return nil, fmt.Errorf("no operation %q", op)
		}
		c, err := rpc.New("http://" + local(ports[i%n]))
		return &cometClient{c: c, client: i}, err
	}
	for i := range n {
		if err := cometReady(ctx, open, i); err != nil {
			cl.stop()
			return nil, nil, fmt.Errorf("%w\n%s", err, cl.logs())
		}
	}
	return &load.Target{PIDs: cl.pids(), Open: open}, cl.stop, nil
}

func cometReady(ctx context.Context, open func(context.Context, string, int) (load.Client, error), i int) error {
	var err error
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		var c load.Client
		if c, err = open(ctx, "put", i); err != nil {
			continue
		}
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = c.Do(try, [][]byte{fmt.Appendf(nil, "ready%d", time.Now().UnixNano())}, [][]byte{[]byte("xx")})
		cancel()
		if err == nil {
			return nil
		}
	}
	return errors.Join(err, ctx.Err())
}

type cometClient struct {
	c         *rpc.HTTP
	client, n int
}

// Do waits for the commit. The example store wants key=value without a second "=", and no transaction twice: the value is half
// of the bytes in hexadecimal, the same length.
func (c *cometClient) Do(ctx context.Context, keys, values [][]byte) error {
	c.n++
	tx := fmt.Appendf(nil, "%s/%d/%d=%s", keys[0], c.client, c.n, hex.EncodeToString(values[0][:len(values[0])/2]))
	r, err := c.c.BroadcastTxCommit(ctx, tx)
	switch {
	case err != nil:
		return err
	case r.CheckTx.IsErr() || r.TxResult.IsErr():
		return fmt.Errorf("refused: %s %s", r.CheckTx.Log, r.TxResult.Log)
	}
	return nil
}

func (c *cometClient) Close() error { return nil }
