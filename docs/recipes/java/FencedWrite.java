import java.sql.DriverManager;

/** Adds to a balance so that a late write is refused: {@code JDBC_URL=… FencedWrite 42 -100}. */
final class FencedWrite {
    public static void main(String[] args) throws Exception {
        long account = Long.parseLong(args[0]);
        long amount = Long.parseLong(args[1]);
        double think = Double.parseDouble(System.getenv().getOrDefault("THINK_SECONDS", "0"));
        int[] code = {0};
        try (var database = DriverManager.getConnection(System.getenv("JDBC_URL"))) {
            // Renewed by hand, that is not at all: the lease is over after its ttl, whatever happens to this process.
            String ask = "{\"wait\":\"30s\",\"ttl\":\"1s\",\"renew\":\"manual\"}";
            Pawl.withLock("account/" + account, ask, grant -> {
                // The read shows the token to the row, which remembers the largest: from here on an older holder's write is
                // refused, so none can slip in between this read and its write.
                var read = database.prepareStatement(
                        "UPDATE account SET fence = ? WHERE id = ? AND fence <= ? RETURNING balance");
                read.setLong(1, grant.fencingToken());
                read.setLong(2, account);
                read.setLong(3, grant.fencingToken());
                var row = read.executeQuery();
                boolean isNewest = row.next();
                long balance = isNewest ? row.getLong(1) + amount : 0;
                Thread.sleep((long) (1000 * think));
                // And so does the write. No row, here or above: a later holder was there.
                var write = database.prepareStatement(
                        "UPDATE account SET balance = ?, fence = ? WHERE id = ? AND fence <= ?");
                write.setLong(1, balance);
                write.setLong(2, grant.fencingToken());
                write.setLong(3, account);
                write.setLong(4, grant.fencingToken());
                if (!isNewest || write.executeUpdate() == 0) {
                    System.err.println("refused: the token " + grant.fencingToken() + " is stale");
                    code[0] = 3;
                } else {
                    System.out.println("balance " + balance);
                }
            });
        } catch (Pawl.Lost lost) {
            // The fence has decided about the write already.
            System.err.println(lost.getMessage());
        }
        System.exit(code[0]);
    }
}
