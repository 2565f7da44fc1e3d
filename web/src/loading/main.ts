import { adopt, register } from "../given";
import { DataLoading } from "./DataLoading";
import css from "./loading.css";

adopt(css);
register("loading", DataLoading);
